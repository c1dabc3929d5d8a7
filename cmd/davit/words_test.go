package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/internal/client"
	"davit/orchestrator"
)

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", 64 << 20: "64.0 MiB", 3 << 30: "3.0 GiB", 5 << 40: "5.0 TiB", 4096 << 40: "4096.0 TiB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"": {}, "90m": now.Add(-90 * time.Minute), "2026-11-21T10:00:00+01:00": time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC),
		"2026-11-20": time.Date(2026, 11, 20, 0, 0, 0, 0, time.Local),
	} {
		got, err := parseTime("--from", s, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"yesterday", "-3h", "2026-13-01", "10:00"} {
		var usage usageError
		if _, err := parseTime("--from", s, now); !errors.As(err, &usage) || !strings.Contains(err.Error(), "--from") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// TestExplained: what a problem says is printed once, each field in its line.
func TestExplained(t *testing.T) {
	field := client.FieldError{Pointer: "/image_types/2/id", Message: `image type "x": not found`}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"any error":            {errors.New("disk full"), "disk full"},
		"a sentence":           {&client.Error{Status: 409, Detail: "It is in use."}, "It is in use."},
		"only a field":         {&client.Error{Status: 422, Detail: `not valid: image_types/2/id: image type "x": not found`, Fields: []client.FieldError{field}}, "The request is not valid:\n  /image_types/2/id: image type \"x\": not found"},
		"more than the fields": {&client.Error{Status: 422, Detail: "Nothing was done.", Fields: []client.FieldError{{Location: "line 3", Message: "no\nid"}}}, "Nothing was done.\n  line 3: no id"},
		"no token":             {&client.Error{Status: 401, Detail: "No."}, "No.\nGive another token with --token-file FILE or DAVIT_TOKEN; davit token create makes one."},
	} {
		if got := explained(c.err); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

func TestMergeDevices(t *testing.T) {
	g := orchestrator.Group{ID: "g", Devices: []string{"a", "b"}}
	for name, c := range map[string]struct {
		instead     *[]string
		add, remove []string
		want        []string
	}{
		"nothing":         {want: []string{"a", "b"}},
		"add":             {add: []string{"c", "a"}, want: []string{"a", "b", "c"}},
		"remove":          {remove: []string{"a"}, want: []string{"b"}},
		"instead":         {instead: &[]string{"x"}, want: []string{"x"}},
		"none":            {instead: &[]string{""}, want: []string{}},
		"instead and add": {instead: &[]string{"x"}, add: []string{"y"}, remove: []string{"x"}, want: []string{"y"}},
	} {
		got, err := mergeDevices(g, c.instead, c.add, c.remove)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
	if !slices.Equal(g.Devices, []string{"a", "b"}) {
		t.Errorf("the group itself was changed: %v", g.Devices)
	}
}
