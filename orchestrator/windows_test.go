package orchestrator

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func compiled(t testing.TB, ws ...Window) *timetable {
	t.Helper()
	table, err := compileWindows(ws)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func window(cron string, lasts time.Duration, zone string) Window {
	return Window{Cron: cron, Duration: Duration(lasts), Zone: zone}
}

// instant reads 2026-03-29T01:00+01:00.
func instant(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04Z07:00", s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// openings lists when windows open and close from a moment on, in a zone.
func openings(t testing.TB, table *timetable, from string, zone string, n int) string {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	at, was := instant(t, from), false
	for len(list) < n {
		open, edge := table.at(at, nil)
		if open != was {
			list = append(list, strings.TrimSuffix(at.In(loc).Format("02T15:04Z0700"), "00"))
			was = open
		}
		if edge.IsZero() {
			break
		}
		at = edge
	}
	return strings.Join(list, " ")
}

// The zones of summer time, with the times as RFC 5545 section 3.3.5 reads them.
func TestWindowsWhereClocksChange(t *testing.T) {
	const berlin, newYork, lordHowe = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
	for _, c := range []struct {
		name, cron string
		lasts      time.Duration
		zone, from string
		want       string // opens and closes
	}{
		{"on plain days", "0 1 * * *", 2 * time.Hour, berlin, "2026-06-01T12:00Z", "02T01:00+02 02T03:00+02 03T01:00+02 03T03:00+02"},
		{"across the leap forward", "0 1 * * *", 2 * time.Hour, berlin, "2026-03-28T12:00Z", "29T01:00+01 29T04:00+02 30T01:00+02 30T03:00+02"},
		{"across the step back", "0 1 * * *", 3 * time.Hour, berlin, "2026-10-24T12:00Z", "25T01:00+02 25T03:00+01 26T01:00+01 26T04:00+01"},
		{"in the gap", "30 2 * * *", time.Hour, berlin, "2026-03-28T12:00Z", "29T03:30+02 29T04:30+02 30T02:30+02 30T03:30+02"},
		{"at the gap's begin", "0 2 * * *", time.Hour, berlin, "2026-03-28T12:00Z", "29T03:00+02 29T04:00+02 30T02:00+02 30T03:00+02"},
		{"twice", "30 2 * * *", time.Hour, berlin, "2026-10-24T12:00Z", "25T02:30+02 25T02:30+01 26T02:30+01 26T03:30+01"},
		{"after the repeated hour", "0 3 * * *", time.Hour, berlin, "2026-10-24T12:00Z", "25T03:00+01 25T04:00+01 26T03:00+01 26T04:00+01"},
		{"every hour over the leap", "15 * * * *", time.Minute, berlin, "2026-03-29T00:20Z", "29T03:15+02 29T03:16+02 29T04:15+02 29T04:16+02"},
		{"every hour over the step", "15 * * * *", time.Minute, berlin, "2026-10-24T23:20Z", "25T02:15+02 25T02:16+02 25T02:15+01 25T02:16+01 25T03:15+01 25T03:16+01"},
		{"some hours over the step", "15 1-4 * * *", time.Minute, berlin, "2026-10-24T23:20Z", "25T02:15+02 25T02:16+02 25T03:15+01 25T03:16+01"},
		{"in the gap of New York", "30 2 * * *", time.Hour, newYork, "2026-03-07T12:00Z", "08T03:30-04 08T04:30-04 09T02:30-04 09T03:30-04"},
		{"twice in New York", "30 1 * * *", 90 * time.Minute, newYork, "2026-10-31T12:00Z", "01T01:30-04 01T02:00-05 02T01:30-05 02T03:00-05"},
		{"in the gap of half an hour", "15 2 * * *", time.Hour, lordHowe, "2026-10-03T00:00Z", "04T02:45+11 04T03:45+11 05T02:15+11 05T03:15+11"},
		{"after the gap of half an hour", "30 2 * * *", time.Hour, lordHowe, "2026-10-03T00:00Z", "04T02:30+11 04T03:30+11 05T02:30+11 05T03:30+11"},
		{"twice half an hour", "45 1 * * *", time.Hour, lordHowe, "2026-04-04T00:00Z", "05T01:45+11 05T02:15+1030 06T01:45+1030 06T02:45+1030"},
		{"across half an hour", "0 1 * * *", 2 * time.Hour, lordHowe, "2026-04-04T00:00Z", "05T01:00+11 05T02:30+1030 06T01:00+1030 06T03:00+1030"},
		{"midnight in the gap", "0 0 * * *", time.Hour, "America/Santiago", "2026-09-05T12:00Z", "06T01:00-03 06T02:00-03 07T00:00-03 07T01:00-03"},
		{"midnight twice", "30 23 * * *", time.Hour, "America/Santiago", "2026-04-04T12:00Z", "04T23:30-03 04T23:30-04 05T23:30-04 06T00:30-04"},
		{"a day that never was", "0 12 30 12 *", time.Hour, "Pacific/Apia", "2011-12-01T00:00Z", "31T12:00+14 31T13:00+14 30T12:00+14 30T13:00+14"},
		{"days of 23 and 25 hours", "0 0 * * sun", 24 * time.Hour, berlin, "2026-03-28T12:00Z", "29T00:00+01 30T01:00+02 05T00:00+02 06T00:00+02"},
	} {
		table := compiled(t, window(c.cron, c.lasts, c.zone))
		if got := openings(t, table, c.from, c.zone, len(strings.Fields(c.want))); got != c.want {
			t.Errorf("%s: %s in %s:\n got %s\nwant %s", c.name, c.cron, c.zone, got, c.want)
		}
	}
}

func TestWindowsOpen(t *testing.T) {
	h := time.Hour
	for _, c := range []struct {
		name string
		ws   []Window
		from string
		want string
	}{
		{"UTC without a zone", []Window{window("0 1 * * mon-fri", h, "")}, "2026-05-29T00:00Z", "29T01:00Z 29T02:00Z 01T01:00Z 01T02:00Z"},
		{"a whole week", []Window{window("0 0 * * sun", 168*h, "")}, "2026-06-04T00:00Z", "04T00:00Z"},
		{"a weekly window", []Window{window("0 22 * * fri", 55*h, "")}, "2026-06-01T12:00Z", "05T22:00Z 08T05:00Z 12T22:00Z 15T05:00Z"},
		{"in the middle of one", []Window{window("0 22 * * fri", 55*h, "")}, "2026-06-07T00:00Z", "07T00:00Z 08T05:00Z"},
		{"overlapping", []Window{window("0 1 * * *", 2*h, ""), window("30 2 * * *", h, "")}, "2026-06-01T00:00Z", "01T01:00Z 01T03:30Z"},
		{"adjoining", []Window{window("0 1 * * *", h, ""), window("0 2 * * *", h, "")}, "2026-06-01T00:00Z", "01T01:00Z 01T03:00Z"},
		{"one that overlaps with itself", []Window{window("0 1,2,5 * * *", 90*time.Minute, "")}, "2026-06-01T00:00Z", "01T01:00Z 01T03:30Z 01T05:00Z 01T06:30Z"},
		{"one within another", []Window{window("0 1 * * *", 5*h, ""), window("0 2 * * *", h, "")}, "2026-06-01T00:00Z", "01T01:00Z 01T06:00Z"},
		{"of two zones", []Window{window("0 1 * * *", h, "Asia/Tokyo"), window("0 1 * * *", h, "")}, "2026-06-01T00:00Z", "01T01:00Z 01T02:00Z 01T16:00Z 01T17:00Z"},
		{"a leap day", []Window{window("0 0 29 2 *", h, "")}, "2026-01-01T00:00Z", "29T00:00Z 29T01:00Z"},
		{"eight years without a leap day", []Window{window("0 0 29 2 *", h, "")}, "2096-03-01T00:00Z", "29T00:00Z 29T01:00Z"},
		{"the 31st", []Window{window("0 0 31 * *", h, "")}, "2026-06-01T00:00Z", "31T00:00Z 31T01:00Z 31T00:00Z 31T01:00Z"},
		{"the second Tuesday", []Window{window("0 0 * * tue#2", h, "")}, "2026-06-01T00:00Z", "09T00:00Z 09T01:00Z 14T00:00Z 14T01:00Z"},
		{"the last Friday", []Window{window("0 0 * * FRI#L", h, "")}, "2026-06-01T00:00Z", "26T00:00Z 26T01:00Z 31T00:00Z 31T01:00Z"},
		{"Sunday is 0 and 7", []Window{window("0 0 * * 7", h, ""), window("0 2 * * 0", h, "")}, "2026-06-01T00:00Z", "07T00:00Z 07T01:00Z 07T02:00Z 07T03:00Z"},
		{"over New Year", []Window{window("0 20 31 dec *", 8*h, "")}, "2026-06-01T00:00Z", "31T20:00Z 01T04:00Z"},
		{"daily", []Window{window("@daily", h, "")}, "2026-06-01T12:00Z", "02T00:00Z 02T01:00Z"},
		{"hours over midnight", []Window{window("0 22-1 * * *", h, "")}, "2026-06-01T12:00Z", "01T22:00Z 02T02:00Z"},
	} {
		if got := openings(t, compiled(t, c.ws...), c.from, "UTC", len(strings.Fields(c.want))); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	if open, edge := compiled(t).at(noon, nil); !open || !edge.IsZero() {
		t.Errorf("without windows: %v until %v", open, edge)
	}
}

func TestWindowBounds(t *testing.T) {
	table := compiled(t, window("0 1 * * *", time.Hour, ""))
	opens := time.Date(2026, 6, 1, 1, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		at   time.Time
		open bool
		edge time.Time
	}{
		{opens.Add(-1), false, opens},
		{opens, true, opens.Add(time.Hour)},
		{opens.Add(time.Hour - 1), true, opens.Add(time.Hour)},
		{opens.Add(time.Hour), false, opens.Add(24 * time.Hour)},
	} {
		if open, edge := table.at(c.at, nil); open != c.open || !edge.Equal(c.edge) {
			t.Errorf("at %v: %v until %v, want %v until %v", c.at, open, edge, c.open, c.edge)
		}
	}
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	if open, _ := table.at(opens.Add(-9*time.Hour), tokyo); !open {
		t.Error("closed at one o'clock in the device's zone")
	}
	if open, _ := table.at(opens, tokyo); open {
		t.Error("open at one o'clock in the window's zone, and not in the device's")
	}
}

func TestWrongWindows(t *testing.T) {
	good := window("0 1 * * *", time.Hour, "UTC")
	for _, c := range []struct {
		field, words string
		w            Window
	}{
		{"cron", "five fields", window("", time.Hour, "")},
		{"cron", "five fields", window("0 1 * *", time.Hour, "")},
		{"cron", "five fields", window("0 0 1 * * *", time.Hour, "")},
		{"cron", "five fields", window("60 1 * * *", time.Hour, "")},
		{"cron", "five fields", window("0 1 * * someday", time.Hour, "")},
		{"cron", "five fields", window("@sometimes", time.Hour, "")},
		{"cron", "five fields", window("0 1 % * *", time.Hour, "")},
		{"cron", "no time of day", window("@every 1h", time.Hour, "")},
		{"cron", "set the window's zone", window("CRON_TZ=Europe/Berlin 0 1 * * *", time.Hour, "")},
		{"cron", "set the window's zone", window("TZ=UTC 0 1 * * *", time.Hour, "")},
		{"cron", "never opens", window("0 0 30 2 *", time.Hour, "")},
		{"cron", "never opens", window("0 0 31 4,6,9,11 *", time.Hour, "")},
		{"cron", "both a day of month and a day of week", window("0 0 13 * fri", time.Hour, "")},
		{"duration", "1m to 168h", window("0 1 * * *", 0, "")},
		{"duration", "1m to 168h", window("0 1 * * *", 59*time.Second, "")},
		{"duration", "1m to 168h", window("0 1 * * *", 168*time.Hour+1, "")},
		{"zone", "another zone on each server", window("0 1 * * *", time.Hour, "Local")},
		{"zone", "not an IANA zone", window("0 1 * * *", time.Hour, "Mars/Olympus")},
		{"zone", "not an IANA zone", window("0 1 * * *", time.Hour, "../etc/passwd")},
	} {
		_, err := compileWindows([]Window{good, c.w})
		var f *FieldError
		if !errors.As(err, &f) || !errors.Is(err, ErrInvalid) || f.Field != "rollout/schedule/windows/1/"+c.field || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%+v: %v, want %s: %s", c.w, err, c.field, c.words)
		}
	}
}

// Go's clock has no leap seconds: a second that is one is not a time of day for
// it, and the last minute of 2016 has sixty seconds in which nothing changes.
func TestLeapSecond(t *testing.T) {
	var s Schedule
	if err := json.Unmarshal([]byte(`{"start": "2016-12-31T23:59:60Z"}`), &s); err == nil {
		t.Errorf("second 60 was read as %v", s.Start)
	}
	if err := json.Unmarshal([]byte(`{"start": "2016-12-31T23:59:59Z"}`), &s); err != nil {
		t.Error(err)
	}
	table := compiled(t, window("59 23 31 12 *", time.Minute, ""))
	year := time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)
	for ahead := time.Minute; ahead > 0; ahead -= 500 * time.Millisecond {
		if open, edge := table.at(year.Add(-ahead), nil); !open || !edge.Equal(year) {
			t.Errorf("%v before the year's end: %v until %v", ahead, open, edge)
		}
	}
	if open, _ := table.at(s.Start.Add(time.Second), nil); open {
		t.Error("open in the new year")
	}
}

// changesOf are the moments at which a zone's clock is set in a year.
func changesOf(zone *time.Location, from, to time.Time) (list []time.Time) {
	for at := from; ; {
		_, at = at.In(zone).ZoneBounds()
		if at.IsZero() || at.After(to) {
			return list
		}
		list = append(list, at)
	}
}

// plainOpenings looks at the clock every minute, the plain way to read a
// recurrence, and adds those that the clock never shows.
func plainOpenings(w *recurrence, zone *time.Location, from, to time.Time) (list []time.Time) {
	matches := func(shown time.Time) bool {
		day := time.Date(shown.Year(), shown.Month(), shown.Day(), 0, 0, 0, 0, time.UTC)
		return w.opensOn(day) && w.hour>>shown.Hour()&1 != 0 && w.minute>>shown.Minute()&1 != 0
	}
	changes := changesOf(zone, from, to)
	for at := from; at.Before(to); at = at.Add(time.Minute) {
		again := slices.ContainsFunc(changes, func(change time.Time) bool {
			back := offset(change.Add(-1), zone) - offset(change, zone)
			return back > 0 && !at.Before(change) && at.Before(change.Add(back))
		})
		if matches(at.In(zone)) && (!again || w.hour == 1<<24-1) {
			list = append(list, at)
		}
	}
	for _, change := range changes {
		before := offset(change.Add(-1), zone)
		for gap := range (offset(change, zone) - before) / time.Minute {
			at := change.Add(gap * time.Minute)
			if matches(at.Add(before).UTC()) {
				list = append(list, at)
			}
		}
	}
	slices.SortFunc(list, time.Time.Compare)
	return list
}

func windowGen(t *rapid.T) Window {
	field := func(name string, low, high int) string {
		n := rapid.IntRange(low, high)
		switch rapid.IntRange(0, 4).Draw(t, name) {
		case 0:
			return fmt.Sprintf("%d,%d", n.Draw(t, "first"), n.Draw(t, "second"))
		case 1:
			return fmt.Sprintf("%d-%d", low, n.Draw(t, "last"))
		case 2:
			return fmt.Sprint(n.Draw(t, "value"))
		}
		return "*"
	}
	w := Window{
		Cron: fmt.Sprintf("%s %s * * %s", field("minute", 0, 59), field("hour", 0, 23), field("weekday", 0, 6)),
		Zone: rapid.SampledFrom(strings.Fields("Europe/Berlin America/New_York Australia/Lord_Howe America/Santiago UTC Asia/Kathmandu Africa/Casablanca")).Draw(t, "zone"),
	}
	w.Duration = Duration(rapid.Int64Range(1, 400).Draw(t, "minutes")) * Duration(time.Minute)
	return w
}

// What at says holds until the edge that it names, is what the plain reading
// says, and does not depend on what was asked before.
func TestWindowsAreWhatTheClockShows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := windowGen(t)
		table, err := compileWindows([]Window{w})
		if err != nil {
			t.Fatal(err)
		}
		zone, lasts := table.windows[0].zone, time.Duration(w.Duration)
		from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 8000).Draw(t, "hour")) * time.Hour)
		if changes := changesOf(zone, from, from.AddDate(1, 0, 0)); len(changes) > 0 && rapid.Bool().Draw(t, "near a change") {
			from = rapid.SampledFrom(changes).Draw(t, "change").Add(-36 * time.Hour)
		}
		from = from.Add(time.Duration(rapid.IntRange(0, 6).Draw(t, "minute")) * time.Minute)
		to := from.Add(40 * time.Hour)
		plain := plainOpenings(&table.windows[0], zone, from.Add(-lasts-time.Hour), to)
		edge, was := time.Time{}, false
		for at := from; at.Before(to); at = at.Add(11 * time.Minute) {
			i, exact := slices.BinarySearchFunc(plain, at, time.Time.Compare)
			if !exact {
				i--
			}
			want := i >= 0 && at.Before(plain[i].Add(lasts))
			open, until := table.at(at, nil)
			if open != want {
				t.Fatalf("%+v at %v: open %v, want %v", w, at.In(zone), open, want)
			}
			if !until.After(at) {
				t.Fatalf("%+v at %v: the edge %v is not ahead", w, at.In(zone), until.In(zone))
			}
			if at.Before(edge) && open != was {
				t.Fatalf("%+v changed at %v before its edge %v", w, at.In(zone), edge.In(zone))
			}
			edge, was = until, open
			if at.Minute() < 11 { // a clock that was set back finds the same
				back := at.Add(-time.Hour)
				again, _ := table.at(back, nil)
				j, exact := slices.BinarySearchFunc(plain, back, time.Time.Compare)
				if !exact {
					j--
				}
				if again != (j >= 0 && back.Before(plain[j].Add(lasts))) {
					t.Fatalf("%+v at %v with the clock set back: %v", w, back.In(zone), again)
				}
			}
		}
	})
}

// Over a whole year and several windows, the edges lead from one change to the next.
func TestWindowEdgesOverAYear(t *testing.T) {
	table := compiled(t,
		window("0 1 * * *", 2*time.Hour, "Europe/Berlin"), window("30 1 * * sun", 5*time.Hour, "America/New_York"),
		window("0 22 * * fri#2", 55*time.Hour, "Australia/Lord_Howe"))
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	edge, was, changes := from, false, 0
	for at := from; at.Before(from.AddDate(1, 0, 0)); at = at.Add(29 * time.Minute) {
		open, until := table.at(at, nil)
		if at.Before(edge) && open != was {
			t.Fatalf("changed at %v, before %v", at, edge)
		}
		if open != was {
			changes++
		}
		if before, _ := table.at(until.Add(-1), nil); before != open {
			t.Fatalf("at %v it is %v until %v, and just before it is %v", at, open, until, before)
		}
		edge, was = until, open
	}
	if changes < 700 {
		t.Errorf("%d changes in a year", changes)
	}
}

// Windows that never close name moments in between, at a bounded cost.
func TestWindowsWithoutEnd(t *testing.T) {
	table := compiled(t, window("* * * * *", time.Minute, "Europe/Berlin"))
	for at := time.Date(2026, 10, 24, 20, 0, 0, 0, time.UTC); at.Day() < 26; {
		open, edge := table.at(at, nil)
		if !open || !edge.After(at) {
			t.Fatalf("at %v: %v until %v", at, open, edge)
		}
		at = edge
	}
}

func BenchmarkWindowsAt(b *testing.B) {
	plain := compiled(b, window("0 1 * * mon-fri", 2*time.Hour, "Europe/Berlin"))
	rare := compiled(b, window("0 0 29 2 *", 2*time.Hour, "Europe/Berlin"))
	dense := compiled(b, window("* * * * *", time.Minute, "Europe/Berlin"))
	change := time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		table *timetable
		at    time.Time
	}{{"weekly", plain, noon}, {"leap day", rare, noon}, {"every minute", dense, noon}, {"every minute at a change", dense, change}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				c.table.at(c.at, nil)
			}
		})
	}
}
