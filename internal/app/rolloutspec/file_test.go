package rolloutspec

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"davit/internal/app/yamlfile"
	"davit/orchestrator"
	"davit/schemas"
)

const reference = "../../../docs/rollout.yaml"

// names are the names of all fields of a type and of what it holds.
func names(t reflect.Type, found map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		names(t.Elem(), found)
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			found[name] = true
			names(t.Field(i).Type, found)
		}
	}
}

// The file that the documentation shows is one, and every field is in it.
func TestReferenceFile(t *testing.T) {
	f, err := Load(reference)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	names(reflect.TypeFor[orchestrator.Rollout](), all)
	if len(all) < 40 {
		t.Errorf("%d names only", len(all))
	}
	for name := range all {
		if !strings.Contains(string(text), name+":") {
			t.Errorf("%s is not in it", name)
		}
	}
	r := f.Rollout
	if len(r.Waves) != 5 || r.Waves[2].Percent != 5 || r.Waves[2].Of != orchestrator.OfOnline || time.Duration(r.Waves[2].Soak) != 24*time.Hour || !r.Waves[2].Approve {
		t.Errorf("waves %+v", r.Waves)
	}
	if c := r.Retry.Causes[schemas.CauseNetwork]; c.Attempts != 10 || time.Duration(c.Backoff.First) != 10*time.Second {
		t.Errorf("retries after failures of the network: %+v", c)
	}
	if want := time.Date(2027, 3, 1, 21, 0, 0, 0, time.UTC); !r.Schedule.Start.Equal(want) {
		t.Errorf("starts %v, want %v", r.Schedule.Start, want)
	}
	v := reflect.ValueOf(r)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "ConfirmBy" { // which goes with another action
			t.Errorf("%s is not set by it", name)
		}
	}
}

// What is told as JSON is read as it was.
func TestJSONIsRead(t *testing.T) {
	f, err := Load(reference)
	if err != nil {
		t.Fatal(err)
	}
	for _, indent := range []string{"", "  ", "\t"} {
		b, err := json.MarshalIndent(f.Rollout, "", indent)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("r.json", b)
		if err != nil {
			t.Fatalf("indented by %q: %v", indent, err)
		}
		if x, err := json.MarshalIndent(again.Rollout, "", indent); err != nil || string(x) != string(b) {
			t.Errorf("%v, read as %s\nwant %s", err, x, b)
		}
	}
}

func TestMistakes(t *testing.T) {
	const causes = "already, boot, canceled, checksum, deferred, flash, internal, min_version, network, protocol, rejected, serial, signature, size, storage, timeout"
	for _, tt := range []struct {
		name, file string
		want       []string // without the file's name
	}{
		{"empty", "", []string{": the file is empty; docs/rollout.yaml is an example"}},
		{"a list", "- percent: 5\n", []string{":1:1: this is a list; the file has to begin with a setting such as waves:; docs/rollout.yaml is an example"}},
		{"too long", "#" + strings.Repeat("x", yamlfile.MaxSize), []string{": the file is longer than 64 KiB; is it a rollout; groups name many devices in one word?"}},
		{"a key that is written badly", "wave:\n  - percent: 5\nwaves:\n  - percnt: 5\n", []string{":1:1: wave is not known; did you mean waves?", ":4:5: waves[0].percnt is not known; did you mean percent?"}},
		{"a key of the API's outside", "rollout:\n  seed: a\n", []string{
			":1:1: rollout is not known; there are action, confirm_by, continuous, defer_limit, pace, priority, retry, schedule, seed, stop, stream, timeouts, via, waves",
		}},
		{"a key twice", "seed: a\nseed: b\n", []string{":2:1: seed stands twice, first in line 1; take one of them out"}},
		{"no value", "pace:\nwaves:\n  -\n", []string{":1:1: pace has no value; give it one, or take the line out", ":3:5: waves[0] has no value; give it one, or take the line out"}},
		{"a percentage with a unit", "waves:\n  - percent: 5%\n", []string{":2:14: waves[0].percent is text; write a number such as 5 or 2.5, without quotes and without a unit"}},
		{"a percentage over 100", "waves:\n  - percent: 100.5\n", []string{":2:14: waves[0].percent is 100.5; write a number from 0 to 100"}},
		{"no number", "waves:\n  - percent: .nan\n  - success: .inf\n", []string{
			":2:14: waves[0].percent is a number; write a number such as 5 or 2.5, without quotes and without a unit",
			":3:14: waves[1].success is a number; write a number such as 5 or 2.5, without quotes and without a unit",
		}},
		{"a negative number", "pace:\n  per_minute: -1\n", []string{":2:15: pace.per_minute is -1; write a whole number, 0 or more"}},
		{"a number with a fraction", "pace:\n  per_minute: 1.5\n", []string{":2:15: pace.per_minute is a number; write a whole number, without quotes"}},
		{"too large a number", "pace:\n  per_minute: 99999999999999999999\n", []string{":2:15: pace.per_minute is 99999999999999999999; write a whole number, 0 or more"}},
		{"a priority", "priority: 101\n", []string{":1:11: priority is 101; write a whole number from -100 to 100"}},
		{"a time without a unit", "defer_limit: 24\n", []string{":1:14: defer_limit is a number without a unit; write a time such as 90s or 2m"}},
		{"a time of days", "waves:\n  - soak: 1d\n", []string{`:2:11: waves[0].soak is "1d"; write a time such as 90s or 2m`}},
		{"a time before", "timeouts: {boot: -1s}\n", []string{`:1:18: timeouts.boot is "-1s"; write a time such as 90s or 2m`}},
		{"a point in time", "schedule:\n  start: 2027-03-01\n  end: tomorrow\n", []string{
			`:2:10: schedule.start is "2027-03-01"; write date, time and offset, such as 2027-03-01T22:00:00+01:00`,
			`:3:8: schedule.end is "tomorrow"; write date, time and offset, such as 2027-03-01T22:00:00+01:00`,
		}},
		{"a choice", "action: sofd\nwaves:\n  - of: connected\n", []string{":1:9: action is sofd; did you mean soft?", ":3:9: waves[0].of is connected; there are all, online"}},
		{"a truth", "continuous: yes\nschedule:\n  recall: 1\n", []string{`:1:13: continuous is "yes"; write true or false`, `:3:11: schedule.recall is a number; put it in quotes: recall: "1"`}},
		{"a cause", "stop:\n  - causes: [chekcsum, weather]\n", []string{":2:14: stop[0].causes[0] is chekcsum; did you mean checksum?", ":2:24: stop[0].causes[1] is weather; there are " + causes}},
		{"a cause of retries", "retry:\n  causes:\n    weather: {attempts: 1}\n    boot: {attempts: 101}\n", []string{
			":3:5: retry.causes.weather is not known; there are " + causes, ":4:22: retry.causes.boot.attempts is 101; write a whole number from 0 to 100",
		}},
		{"a cause without what holds for it", "retry:\n  causes: {boot: 1}\n", []string{":2:18: retry.causes.boot is a number; write its settings under it, each as name: value"}},
		{"a device by number", "waves:\n  - devices: [0012]\n", []string{`:2:15: waves[0].devices[0] is a number; put it in quotes: "0012"`}},
		{"devices as text", "waves:\n  - devices: pump-1,pump-2\n", []string{":2:14: waves[0].devices is text; write a list, where each entry begins with -"}},
		{"waves as text", "waves: 5, 25, 100\n", []string{":1:8: waves is text; write a list, where each entry begins with -"}},
		{"waves as numbers", "waves: [5, 25]\n", []string{
			":1:9: waves[0] is a number; write its settings under it, each as name: value", ":1:12: waves[1] is a number; write its settings under it, each as name: value",
		}},
		{"too many waves", "waves:\n" + strings.Repeat("  - count: 1\n", 51), []string{":52:5: waves has 51 entries; at most 50 are allowed"}},
		{"a long name", "seed: " + strings.Repeat("é", 65) + "\n", []string{":1:7: seed has 65 characters; at most 64 are allowed"}},
		{"a cron expression that begins with a star", "schedule:\n  windows:\n    - cron: */5 * * * *\n", []string{
			":3:13: anchors, aliases and merges (&, *, <<) are not taken here; write the value out, in quotes if it begins so",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := Parse("r.yaml", []byte(tt.file))
			if err == nil {
				t.Fatalf("taken as %+v", f.Rollout)
			}
			if want := "r.yaml" + strings.Join(tt.want, "\nr.yaml"); err.Error() != want {
				t.Errorf("says\n%s\nwant\n%s", err, want)
			}
		})
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{
		filepath.Join(dir, "missing"): ": the rollout cannot be read: no such file or directory",
		dir:                           ": the rollout cannot be read: is a directory",
	} {
		var e *yamlfile.Error
		if _, err := Load(name); !errors.As(err, &e) || err.Error() != name+want {
			t.Errorf("%v, want %s%s", err, name, want)
		}
	}
}

// TestPlace: what the service says is wrong is found in the file.
func TestPlace(t *testing.T) {
	f, err := Parse("r.yaml", []byte("seed: a\nwaves:\n  - percent: 5\n    soak: 1h\n  - {percent: 4}\nretry:\n  causes:\n    boot: {attempts: 2}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for pointer, want := range map[string]string{
		"": "r.yaml", "seed": "r.yaml:1:7", "waves": "r.yaml:3:3", "waves/0/soak": "r.yaml:4:11", "waves/1/percent": "r.yaml:5:15", "waves/1/approve": "r.yaml:5:6", "waves/7": "r.yaml:3:3",
		"retry/causes/boot/attempts": "r.yaml:8:22", "pace/per_minute": "r.yaml",
	} {
		if got := f.Place(pointer); got != want {
			t.Errorf("%q is at %s, want %s", pointer, got, want)
		}
	}
}

// FuzzParse: whatever is in a file, it is read or refused in words that can be
// printed, and what was read is told as JSON that is read the same.
func FuzzParse(f *testing.F) {
	text, err := os.ReadFile(reference)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, s := range []string{"", "waves: [{percent: 5}]", "retry: {causes: {boot: {backoff: {first: 1h}}}}", "schedule: {start: 2027-03-01T00:00:00Z}", `{"via": ["a", "b"]}`, "priority: -0x5", "pace:\n- a", "stop:\n  -\n", "seed: |\n  x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse("f", b)
		if err != nil {
			var e *yamlfile.Error
			if !errors.As(err, &e) || len(e.Problems) == 0 || len(e.Problems) > yamlfile.MaxProblems {
				t.Fatalf("error %v", err)
			}
			for _, p := range e.Problems {
				if s := p.String(); s == "" || len(s) > 4096 || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
					t.Errorf("says %q", s)
				}
			}
			return
		}
		told, err := json.Marshal(file.Rollout)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("f", told)
		if err != nil {
			t.Fatalf("%s: %v", told, err)
		}
		if x, err := json.Marshal(again.Rollout); err != nil || string(x) != string(told) {
			t.Errorf("%v, %s is read as %s", err, told, x)
		}
	})
}
