package rolloutspec

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// short is what a short form is read as.
type short struct {
	text string
	want any
}

// bad is a short form that is refused, with something that the refusal says.
type bad struct{ text, says string }

func checkShort[T any](t *testing.T, parse func(string) (T, error), good []short, refused []bad) {
	t.Helper()
	for _, s := range good {
		if got, err := parse(s.text); err != nil || !reflect.DeepEqual(any(got), s.want) {
			t.Errorf("%q is read as %+v, %v; want %+v", s.text, got, err, s.want)
		}
	}
	for _, s := range refused {
		if got, err := parse(s.text); err == nil || !strings.Contains(err.Error(), s.says) {
			t.Errorf("%q is read as %+v, %v; the refusal should say %q", s.text, got, err, s.says)
		}
	}
}

func TestParseWave(t *testing.T) {
	type W = orchestrator.Wave
	checkShort(t, ParseWave, []short{
		{"5%", W{Percent: 5}}, {"0.5%", W{Percent: 0.5}}, {"100%", W{Percent: 100}}, {"200", W{Count: 200}}, {"group=canary", W{Group: "canary"}},
		{"device=d1", W{Devices: []string{"d1"}}}, {"device=d1,d2", W{Devices: []string{"d1", "d2"}}},
	}, []bad{
		{"", WaveForm}, {"0", WaveForm}, {"-5", WaveForm}, {"5.5", WaveForm}, {"canary", WaveForm}, {"group=", WaveForm}, {"device=", WaveForm}, {"device=a,,b", "device=ID,ID"},
		{"0%", "leave it out"}, {"101%", "0 to 100"}, {"-1%", "0 to 100"}, {"NaN%", "0 to 100"}, {"%", "0 to 100"},
	})
}

func TestParsePercent(t *testing.T) {
	checkShort(t, ParsePercent, []short{{"95", 95.0}, {"99.5%", 99.5}, {"0", 0.0}}, []bad{{"", "0 to 100"}, {"101", "0 to 100"}, {"5%%", "0 to 100"}, {"+Inf", "0 to 100"}})
}

func TestParseStop(t *testing.T) {
	type R = orchestrator.StopRule
	checkShort(t, ParseStop, []short{
		{"5", R{Count: 5}}, {"2%", R{Percent: 2}}, {"2.5%/50", R{Percent: 2.5, MinSample: 50}}, {"1:abort", R{Count: 1, Action: orchestrator.StopAbort}},
		{"checksum=2%/50", R{Causes: []schemas.Cause{"checksum"}, Percent: 2, MinSample: 50}},
		{"checksum,boot=1%/100:recall@wave", R{Causes: []schemas.Cause{"checksum", "boot"}, Percent: 1, MinSample: 100, Action: orchestrator.StopRecall, Over: orchestrator.OverWave}},
		{"3:pause@job", R{Count: 3, Action: orchestrator.StopPause, Over: orchestrator.OverJob}}, {"100%", R{Percent: 100}},
	}, []bad{
		{"", `"" is no number of devices`}, {"0", "no number"}, {"-1", "no number"}, {"0%", "above 0"}, {"101%", "above 0"}, {"x%", "above 0"}, {"5/50", "goes with a percentage"},
		{"5%/0", "no number"}, {"5%/x", "no number"}, {"weather=5", "already, boot"}, {"chekcsum=5", "did you mean checksum?"}, {"=5", "no cause"}, {"boot,=5", "no cause"}, {"5:stop", `no action "stop"`}, {"5:", "no action"},
		{"5@fleet", "wave or job"}, {"5@", "wave or job"}, {"checksum>2%/50", "> and < are not taken"}, {">=5", "> and < are not taken"}, {"5@wave:abort", StopForm},
	})
}

func TestParseRamp(t *testing.T) {
	checkShort(t, ParseRamp, []short{{"10:2:50", orchestrator.Ramp{Start: 10, Factor: 2, After: 50}}, {"1:1.5:1", orchestrator.Ramp{Start: 1, Factor: 1.5, After: 1}}},
		[]bad{{"", RampForm}, {"10", RampForm}, {"10:2", RampForm}, {"0:2:50", "over 1"}, {"10:1:50", "over 1"}, {"10:2:0", "over 1"}, {"a:b:c", RampForm}, {"10:NaN:5", "over 1"}, {"10:Inf:5", "over 1"}, {"1:2:3:4", RampForm}})
}

func TestParseWindow(t *testing.T) {
	hours := orchestrator.Duration(4 * time.Hour)
	checkShort(t, ParseWindow, []short{
		{"0 1 * * *+4h", orchestrator.Window{Cron: "0 1 * * *", Duration: hours}}, {"0 1 * * mon-fri + 4h", orchestrator.Window{Cron: "0 1 * * mon-fri", Duration: hours}},
		{"0 1 * * *+4h@Europe/Berlin", orchestrator.Window{Cron: "0 1 * * *", Duration: hours, Zone: "Europe/Berlin"}},
		{"0 1 * * *+4h@Etc/GMT+3", orchestrator.Window{Cron: "0 1 * * *", Duration: hours, Zone: "Etc/GMT+3"}},
	}, []bad{{"", "how long"}, {"0 1 * * *", "how long"}, {"0 1 * * *+4", "no window"}, {"0 1 * * *+0s", "no window"}, {"+4h", "no window"}, {"0 1 * * *+4h@", "no zone"}, {"0 1 * * *@Etc/GMT+3", "how long"}})
}

func TestParseTimeout(t *testing.T) {
	checkShort(t, ParseTimeout, []short{{"answer=10m", Timeout{"answer", orchestrator.Duration(10 * time.Minute)}}},
		[]bad{{"", "PHASE=TIME"}, {"answer", "PHASE=TIME"}, {"sleep=1h", "answer, download, load, boot, version, total"}, {"boot=90", "such as 90s"}, {"boot=-1s", "such as 90s"}})
	// Every phase has a field of its own.
	var all orchestrator.Timeouts
	for i, p := range Phases() {
		Timeout{p, orchestrator.Duration(i + 1)}.Set(&all)
	}
	if want := (orchestrator.Timeouts{Answer: 1, Download: 2, Load: 3, Boot: 4, Version: 5, Total: 6}); all != want {
		t.Errorf("set %+v", all)
	}
}

func TestParseInstant(t *testing.T) {
	got, err := ParseInstant("2027-03-01T22:00:00+01:00")
	if err != nil || !got.Equal(time.Date(2027, 3, 1, 21, 0, 0, 0, time.UTC)) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := ParseInstant("22:00"); err == nil || !strings.Contains(err.Error(), "offset") {
		t.Errorf("%v", err)
	}
}
