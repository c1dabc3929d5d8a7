package web

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// wellFormed fails unless s can be read as XML, as SVG inside of HTML should be.
func wellFormed(t *testing.T, s string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(s))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%v in %s", err, s)
		}
	}
}

func TestVersionsAreChartedMostFrequentFirstAndEscaped(t *testing.T) {
	counts := map[string]int{"2.0.0": 30, "1.0.0": 60, "<b>": 5, "": 5}
	got := string(chartVersions(counts))
	wellFormed(t, got)
	if strings.Contains(got, "<b>") {
		t.Errorf("a version is not escaped: %s", got)
	}
	first, second := strings.Index(got, "1.0.0"), strings.Index(got, "2.0.0")
	if first < 0 || second < first {
		t.Errorf("versions out of order: %s", got)
	}
	for _, want := range []string{"60 %", "30 %", "not reported", `width="600.0"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
}

func TestRareVersionsShareABar(t *testing.T) {
	counts := map[string]int{}
	for i := range maxVersionBars + 3 {
		counts[strings.Repeat("1", i+1)] = 10
	}
	got := string(chartVersions(counts))
	if n := strings.Count(got, "<li>"); n != maxVersionBars+1 || !strings.Contains(got, "3 other versions") {
		t.Errorf("%d bars: %s", n, got)
	}
}

func TestTallyCountsEveryTargetOnce(t *testing.T) {
	j := orchestrator.Job{Targets: 20, Counts: map[schemas.State]int{
		schemas.StateSucceeded: 5, schemas.StateFailed: 1, schemas.StateRejected: 1, schemas.StateTimedOut: 1,
		schemas.StateCanceled: 2, schemas.StateInstalling: 3, schemas.StateOffered: 4,
	}}
	got := tallyOf(j)
	want := Tally{Targets: 20, Succeeded: 5, Failed: 3, Canceled: 2, Active: 3, Waiting: 7}
	if got != want || got.Percent() != 50 {
		t.Errorf("got %+v, %d %%", got, got.Percent())
	}
	bar := string(chartJob(j))
	wellFormed(t, bar)
	if !strings.Contains(bar, `aria-label="5 succeeded, 3 failed, 2 canceled, 3 under way, 7 waiting of 20"`) {
		t.Errorf("the bar does not say what it shows: %s", bar)
	}
	if w := tallyOf(orchestrator.Job{Targets: 3}).Words(); w != "3 waiting of 3" {
		t.Errorf("a draft: %q", w)
	}
}

func TestHistoryAddsUp(t *testing.T) {
	start := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	h := orchestrator.JobHistory{Start: start, Step: orchestrator.Duration(time.Minute), Points: []orchestrator.HistoryPoint{
		{Succeeded: 2}, {}, {Succeeded: 1, Failed: 1},
	}}
	c := chartHistory(h, 8)
	wellFormed(t, string(c.Plot))
	if len(c.Rows) != 2 || c.Rows[1] != (HistoryRow{start.Add(3 * time.Minute), 3, 1}) || !c.End.Equal(start.Add(3*time.Minute)) {
		t.Errorf("rows %+v, end %s", c.Rows, c.End)
	}
	// The curve of success ends at 3 of 8, the other at 4 of 8.
	for _, want := range []string{"L1000.0 125.0", "L1000.0 100.0", "plot-bad", "<desc", "3 have succeeded and 1 have not"} {
		if !strings.Contains(string(c.Plot), want) {
			t.Errorf("no %q in %s", want, c.Plot)
		}
	}
	if chartHistory(orchestrator.JobHistory{Start: start}, 8) != nil {
		t.Error("a chart of nothing")
	}
}

func TestEveryCauseIsExplained(t *testing.T) {
	for _, c := range schemas.Causes() {
		text := causeOf(c)
		if text.Title == string(c) || len(text.Means) < 20 || len(text.Advice) < 20 {
			t.Errorf("cause %s: %+v", c, text)
		}
	}
	if causeOf("bad_luck").Title != "bad_luck" {
		t.Error("an unknown cause has no title")
	}
}

func TestPercentIsNeverNothingOrAllTooSoon(t *testing.T) {
	for _, c := range []struct{ ended, targets, want int }{{0, 0, 0}, {0, 1000, 0}, {1, 1002, 1}, {500, 1000, 50}, {1001, 1002, 99}, {3, 3, 100}} {
		if got := (Tally{Targets: c.targets, Succeeded: c.ended}).Percent(); got != c.want {
			t.Errorf("%d of %d: %d %%, want %d %%", c.ended, c.targets, got, c.want)
		}
	}
}
