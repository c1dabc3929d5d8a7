package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"davit/internal/client"
)

// rolloutOf reads the rollout of a command line.
func rolloutOf(args ...string) (*rolloutFlags, string, error) {
	f := addRolloutFlags(&cobra.Command{})
	if err := f.cmd.ParseFlags(args); err != nil {
		return f, "", err
	}
	r, err := f.read()
	if err != nil {
		return f, "", err
	}
	b, err := json.Marshal(r)
	return f, string(b), err
}

func rolloutFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "r.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRolloutFlags(t *testing.T) {
	file := rolloutFile(t, "seed: s\nwaves: [{percent: 10, soak: 1h}, {percent: 100}]\npace: {max_in_progress: 5, per_minute: 7}\nretry: {attempts: 2, budget: 9}\ntimeouts: {boot: 1m}\n")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing": {nil, "null"},
		"waves":   {[]string{"--wave", "device=a,b", "--wave", "5%", "--wave", "200"}, `{"waves":[{"devices":["a","b"]},{"percent":5},{"count":200}]}`},
		"of every wave": {
			[]string{"--wave", "5%", "--wave", "group=g", "--success", "95%", "--of", "online", "--soak", "90m"},
			`{"waves":[{"percent":5,"success":95,"of":"online","soak":"1h30m0s"},{"group":"g","success":95,"of":"online","soak":"1h30m0s"}]}`,
		},
		"approval":                    {[]string{"--wave", "5%", "--wave", "100%", "--approve"}, `{"waves":[{"percent":5},{"percent":100,"approve":true}]}`},
		"approval of what is left":    {[]string{"--wave", "5%", "--approve"}, `{"waves":[{"percent":5},{"name":"rest","percent":100,"approve":true}]}`},
		"approval of named ones last": {[]string{"--wave", "100%", "--wave", "group=g", "--approve"}, `{"waves":[{"percent":100},{"group":"g","approve":true}]}`},
		"no approval":                 {[]string{"--wave", "5%", "--approve=false"}, `{"waves":[{"percent":5}]}`},
		"stop":                        {[]string{"--stop", "boot,flash=1", "--stop", "2%/50:abort@wave", "--roll-back", "img"}, `{"stop":[{"causes":["boot","flash"],"count":1},{"percent":2,"min_sample":50,"over":"wave","action":"abort","roll_back":"img"}]}`},
		"pace":                        {[]string{"--max-in-progress", "50", "--per-minute", "100", "--ramp", "10:2:5"}, `{"pace":{"max_in_progress":50,"per_minute":100,"ramp":{"start":10,"factor":2,"after":5}}}`},
		"schedule":                    {[]string{"--start-at", "2027-03-01T22:00:00Z", "--window", "0 1 * * *+4h@Europe/Berlin", "--device-zone", "tz"}, `{"schedule":{"start":"2027-03-01T22:00:00Z","windows":[{"cron":"0 1 * * *","duration":"4h0m0s","zone":"Europe/Berlin"}],"device_zone":"tz"}}`},
		"timeouts":                    {[]string{"--timeout", "answer=10m", "--timeout", "total=3h"}, `{"timeouts":{"answer":"10m0s","total":"3h0m0s"}}`},
		"retries":                     {[]string{"--retry", "5", "--backoff", "10s", "--retry-budget", "100"}, `{"retry":{"attempts":5,"backoff":{"first":"10s"},"budget":100}}`},
		"what a device does":          {[]string{"--action", "soft", "--defer-limit", "24h", "--priority", "-3", "--continuous"}, `{"continuous":true,"priority":-3,"action":"soft","defer_limit":"24h0m0s"}`},
		"shared stream":               {[]string{"--stream", "always"}, `{"stream":"always"}`},
		"confirmation":                {[]string{"--action", "confirm", "--confirm-by", "product"}, `{"action":"confirm","confirm_by":"product"}`},
		"a path":                      {[]string{"--via", "img-1", "--via", "img-2", "--seed", "x"}, `{"seed":"x","via":["img-1","img-2"]}`},
		"a file":                      {[]string{"--rollout", file}, `{"seed":"s","waves":[{"percent":10,"soak":"1h0m0s"},{"percent":100}],"pace":{"max_in_progress":5,"per_minute":7},"timeouts":{"boot":"1m0s"},"retry":{"attempts":2,"budget":9}}`},
		"a file and parts of it":      {[]string{"--rollout", file, "--max-in-progress", "0", "--retry", "4", "--timeout", "answer=1s", "--success", "90"}, `{"seed":"s","waves":[{"percent":10,"success":90,"soak":"1h0m0s"},{"percent":100,"success":90}],"pace":{"per_minute":7},"timeouts":{"answer":"1s","boot":"1m0s"},"retry":{"attempts":4,"budget":9}}`},
		"a file with other waves":     {[]string{"--rollout", file, "--wave", "1%", "--wave", "100%", "--seed", ""}, `{"waves":[{"percent":1},{"percent":100}],"pace":{"max_in_progress":5,"per_minute":7},"timeouts":{"boot":"1m0s"},"retry":{"attempts":2,"budget":9}}`},
		"the order of the flags":      {[]string{"--soak", "2h", "--wave", "5%"}, `{"waves":[{"percent":5,"soak":"2h0m0s"}]}`},
		"a simple job, said clearly":  {[]string{"--action", "install"}, `{"action":"install"}`},
	} {
		if _, got, err := rolloutOf(c.args...); err != nil || got != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
}

// TestRolloutFlagsRefused: each refusal names the flag and what to write.
func TestRolloutFlagsRefused(t *testing.T) {
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"--wave", "5per"}, []string{"--wave", "group=NAME"}},
		{[]string{"--stop", "checksum>2%"}, []string{"--stop", "> and < are not taken", "CAUSE"}},
		{[]string{"--success", "x"}, []string{"--success", "0 to 100"}},
		{[]string{"--of", "some"}, []string{"--of", "all, online"}},
		{[]string{"--action", "force"}, []string{"--action", "install, soft, confirm, download"}},
		{[]string{"--stream", "sometimes"}, []string{"--stream", "auto, always, never"}},
		{[]string{"--confirm-by", "me"}, []string{"--confirm-by", "person, product"}},
		{[]string{"--soak", "1d"}, []string{"--soak", "90s or 2m"}},
		{[]string{"--soak", "1h"}, []string{"--soak", "--wave"}},
		{[]string{"--approve"}, []string{"--approve", "--wave"}},
		{[]string{"--roll-back", "img"}, []string{"--roll-back", "--stop 5%/20:abort"}},
		{[]string{"--roll-back", "img", "--stop", "5"}, []string{"--roll-back", "--stop 5%/20:abort"}},
		{[]string{"--max-in-progress", "-1"}, []string{"--max-in-progress", "0 for no limit"}},
		{[]string{"--per-minute", "many"}, []string{"--per-minute", "whole number"}},
		{[]string{"--ramp", "10"}, []string{"--ramp", "10:2:50"}},
		{[]string{"--start-at", "22:00"}, []string{"--start-at", "2027-03-01T22:00:00+01:00"}},
		{[]string{"--window", "0 1 * * *"}, []string{"--window", "+4h@Europe/Berlin"}},
		{[]string{"--timeout", "boot"}, []string{"--timeout", "PHASE=TIME"}},
		{[]string{"--rollout", "none.yaml"}, []string{"none.yaml", "no such file"}},
		{[]string{"--rollout", rolloutFile(t, "waves:\n- percent: 101\n")}, []string{"r.yaml:2:12: waves[0].percent is 101; write a number from 0 to 100"}},
	} {
		_, got, err := rolloutOf(c.args...)
		if err == nil {
			t.Errorf("%q is read as %s", c.args, got)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q is refused with %q, which does not say %q", c.args, err, s)
			}
		}
	}
}

// TestRolloutProblemsSayWhereTheyComeFrom: what the service says is wrong is found in
// the flag or the line of the file that said it.
func TestRolloutProblemsSayWhereTheyComeFrom(t *testing.T) {
	file := rolloutFile(t, "waves:\n  - percent: 10\n  - percent: 5\npace: {per_minute: 7}\n")
	f, _, err := rolloutOf("--rollout", file, "--max-in-progress", "9", "--soak", "1h", "--timeout", "boot=1h", "--priority", "3")
	if err != nil {
		t.Fatal(err)
	}
	for pointer, want := range map[string]string{
		"/rollout/waves/1/percent":      file + ":3:14: /rollout/waves/1/percent",
		"/rollout/waves/1/soak":         "--soak: /rollout/waves/1/soak",
		"/rollout/pace/per_minute":      file + ":4:20: /rollout/pace/per_minute",
		"/rollout/pace/max_in_progress": "--max-in-progress: /rollout/pace/max_in_progress",
		"/rollout/timeouts/boot":        "--timeout: /rollout/timeouts/boot",
		"/rollout/priority":             "--priority: /rollout/priority",
		"/rollout":                      file + ": /rollout",
		"/image":                        "/image",
	} {
		told := f.explain(&client.Error{Status: 422, Detail: "no", Fields: []client.FieldError{{Pointer: pointer, Message: "m"}}})
		var problem *client.Error
		if !errors.As(told, &problem) || problem.Fields[0].Pointer != want {
			t.Errorf("%s is told as %q, want %q", pointer, problem.Fields[0].Pointer, want)
		}
	}
	if plain := errors.New("other"); f.explain(plain) != plain {
		t.Error("another error is changed")
	}
	// Without a file a problem that no flag has caused stays as it is.
	if f, _, err = rolloutOf("--wave", "5%"); err != nil {
		t.Fatal(err)
	}
	if got := f.origin("waves/0/percent"); got != "--wave" {
		t.Errorf("a wave is from %q", got)
	}
	if got := f.origin("pace"); got != "" {
		t.Errorf("a pace is from %q", got)
	}
}
