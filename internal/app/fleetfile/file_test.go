package fleetfile

import (
	"os"
	"strings"
	"testing"
	"time"

	"davit/internal/fleet"
	"davit/schemas"
)

const documented = "../../../docs/fleet.yaml"

func TestDocumentedFile(t *testing.T) {
	profiles, err := Load(documented)
	if err != nil {
		t.Fatal(err)
	}
	if len(profiles) != 3 {
		t.Fatalf("got %d profiles", len(profiles))
	}
	want := fleet.DefaultProfile()
	want.Name, want.Share, want.V311, want.Bandwidth, want.Latency, want.Loss, want.Chunk, want.Window = "cellular", 25, 0.5, 40<<10, 300*time.Millisecond, 0.01, 4<<10, 16
	want.RebootEvery, want.FallBack, want.FallBackAfter = 30*time.Minute, 0.01, 2*time.Minute
	got := profiles[1]
	if len(got.Faults) != 2 || got.Faults[0] != (fleet.Fault{Cause: schemas.CauseNetwork, Part: 0.02}) {
		t.Errorf("faults %v", got.Faults)
	}
	got.Faults = nil
	if got.Name != want.Name || got.Share != want.Share || got.V311 != want.V311 || got.Bandwidth != want.Bandwidth || got.Latency != want.Latency ||
		got.Loss != want.Loss || got.Chunk != want.Chunk || got.Window != want.Window || got.RebootEvery != want.RebootEvery ||
		got.FallBack != want.FallBack || got.FallBackAfter != want.FallBackAfter || got.Answer != want.Answer || got.Line != want.Line || got.Boot != want.Boot {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if profiles[2].NeverRead != 0.2 || profiles[2].Line != 9600 {
		t.Errorf("got %+v", profiles[2])
	}
}

func TestMistakes(t *testing.T) {
	for _, tt := range []struct{ content, want string }{
		{"", "f: the file is empty; docs/fleet.yaml is an example"},
		{"profiles: []\n", "f:1:11: profiles has no entry; docs/fleet.yaml is an example"},
		{"profiles:\n  - windw: 3\n", "f:2:5: profiles[0].windw is not known; did you mean window?"},
		{"profiles:\n  - window: 65\n", "f:2:13: profiles[0].window is 65; write a whole number from 1 to 64"},
		{"profiles:\n  - bandwidth: fast\n", `f:2:16: profiles[0].bandwidth: "fast" is no speed; write bytes per second such as 50KiB/s`},
		{"profiles:\n  - fail:\n      wind: 3\n", "f:3:7: profiles[0].fail.wind is not known; there are boot, checksum, flash, network, rejected, serial, signature, size, timeout"},
		{"profiles:\n  - window: 3\n    reboot_every: 10ms\n", "f:3:19: profiles[0].reboot_every is 10ms; modules reboot every second at the most"},
		{"profiles:\n  - fail: {boot: 60, flash: 60}\n", "f:2:5: profiles[0]: more than 100 % of the devices fail or never read"},
	} {
		_, err := Parse("f", []byte(tt.content))
		if err == nil || err.Error() != tt.want {
			t.Errorf("%q:\ngot  %v\nwant %s", tt.content, err, tt.want)
		}
	}
	if _, err := Load("nothing.yaml"); err == nil || !strings.Contains(err.Error(), "nothing.yaml: the profiles cannot be read") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	b, err := os.ReadFile(documented)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		profiles, err := Parse("f", b)
		for i := range profiles {
			if err := profiles[i].Validate(); err != nil {
				t.Error(err)
			}
		}
		if err == nil && len(profiles) == 0 {
			t.Error("no profiles and no error")
		}
	})
}
