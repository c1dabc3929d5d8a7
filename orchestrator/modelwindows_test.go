package orchestrator_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"davit/orchestrator"
)

// The model's own idea of maintenance windows: it goes through the minutes of real
// time and asks what a clock on the wall shows. The rules for changes of the clock
// are those of RFC 5545, section 3.3.5: a time of day that is left out is read as
// if the clock had not been set yet; one that comes twice is the first of the two,
// but where every hour counts.

// wallCron is an expression of the few forms that schedules of the model use.
type wallCron struct {
	minutes, hours map[int]bool
	anyHour        bool
	weekdays       bool
}

func parseWallCron(expr string) wallCron {
	f := strings.Fields(expr)
	c := wallCron{minutes: map[int]bool{}, hours: map[int]bool{}, anyHour: f[1] == "*", weekdays: f[4] == "mon-fri"}
	if step, every := strings.CutPrefix(f[0], "*/"); every {
		n, _ := strconv.Atoi(step)
		for m := 0; m < 60; m += n {
			c.minutes[m] = true
		}
	} else {
		n, _ := strconv.Atoi(f[0])
		c.minutes[n] = true
	}
	if !c.anyHour {
		for _, h := range strings.Split(f[1], ",") {
			n, _ := strconv.Atoi(h)
			c.hours[n] = true
		}
	}
	return c
}

// shows says whether a clock that is so far ahead of UTC shows an opening.
func (c *wallCron) shows(at time.Time, offset int) bool {
	w := at.UTC().Add(time.Duration(offset) * time.Second)
	return c.minutes[w.Minute()] && (c.anyHour || c.hours[w.Hour()]) && (!c.weekdays || w.Weekday() >= time.Monday && w.Weekday() <= time.Friday)
}

// opens says whether the window opens at a minute of real time.
func (c *wallCron) opens(at time.Time, zone *time.Location) bool {
	_, now := at.In(zone).Zone()
	_, before := at.Add(-3 * time.Hour).In(zone).Zone()
	switch {
	case now == before:
		return c.shows(at, now)
	case now > before: // set forward not long ago
		_, atOnce := at.Add(-time.Duration(now-before) * time.Second).In(zone).Zone()
		return c.shows(at, now) || atOnce == before && c.shows(at, before)
	}
	_, atOnce := at.Add(-time.Duration(before-now) * time.Second).In(zone).Zone()
	return c.shows(at, now) && (c.anyHour || atOnce == now) // the first of two that show the same
}

// opened remembers when windows open, by expression, zone and day.
var opened sync.Map

func openingsOn(day time.Time, expr, zoneName string) []time.Time {
	key := expr + "|" + zoneName + "|" + day.Format(time.DateOnly)
	if v, ok := opened.Load(key); ok {
		return v.([]time.Time)
	}
	zone, err := time.LoadLocation(zoneName)
	if err != nil {
		panic(err)
	}
	c := parseWallCron(expr)
	var out []time.Time
	for m := range 24 * 60 {
		if at := day.Add(time.Duration(m) * time.Minute); c.opens(at, zone) {
			out = append(out, at)
		}
	}
	opened.Store(key, out)
	return out
}

// windowsOpen says whether one of the windows is open, and when one opens next
// otherwise. A zone that is not empty is that of all of them.
func windowsOpen(ws []orchestrator.Window, zone string, now time.Time) (bool, time.Time) {
	if len(ws) == 0 {
		return true, time.Time{}
	}
	var next time.Time
	today := now.UTC().Truncate(24 * time.Hour)
	for _, w := range ws {
		name := w.Zone
		if zone != "" {
			name = zone
		}
		for d := -1; d <= 4; d++ {
			for _, at := range openingsOn(today.AddDate(0, 0, d), w.Cron, name) {
				if !at.After(now) && now.Before(at.Add(time.Duration(w.Duration))) {
					return true, time.Time{}
				}
				if at.After(now) && (next.IsZero() || at.Before(next)) {
					next = at
				}
			}
		}
	}
	return false, next
}

// TestModelWindows holds the model's own windows against days whose changes of the
// clock are written down here.
func TestModelWindows(t *testing.T) {
	for _, c := range []struct{ cron, zone, day, want string }{
		{"30 2 * * *", "Europe/Berlin", "2026-03-28", "01:30"},
		{"30 2 * * *", "Europe/Berlin", "2026-03-29", "01:30"}, // 02:30 does not exist; it is 03:30 then
		{"30 2 * * *", "Europe/Berlin", "2026-03-30", "00:30"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25", "00:30"}, // the first of two
		{"0 1 * * *", "America/New_York", "2026-11-01", "05:00"},
		{"0 1 * * *", "UTC", "2026-11-01", "01:00"},
		{"15 22 * * mon-fri", "UTC", "2026-11-01", ""}, // a Sunday
		{"15 22 * * mon-fri", "Asia/Kolkata", "2026-11-02", "16:45"},
	} {
		day, err := time.Parse(time.DateOnly, c.day)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, at := range openingsOn(day, c.cron, c.zone) {
			got = append(got, at.Format("15:04"))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s in %s on %s opens at %v UTC, want %s", c.cron, c.zone, c.day, got, c.want)
		}
	}
	day := time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC)
	if n := len(openingsOn(day, "*/20 * * * *", "Europe/Berlin")); n != 72 {
		t.Errorf("%d openings every 20 minutes of a day, want 72", n)
	}
}
