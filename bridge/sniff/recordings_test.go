package sniff_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"davit/bridge/dialect"
	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/bridge/dialect/dialecttest"
	"davit/bridge/recording"
	"davit/bridge/sniff"
	"davit/internal/sim"
	"davit/schemas"
	"davit/schemas/afpro"
)

var updateRecordings = flag.Bool("update-recordings", false, "make the recordings in testdata, and what they say, anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scene is one recording in testdata.
type scene struct {
	name  string
	setup dialecttest.Setup
	act   func(r *dialecttest.Rig)
}

const versionAttribute = "2101"

// scenes are small: an update each, with images of a few hundred bytes.
func scenes() []scene {
	aylaMCU := func(cfg sim.MCUConfig) func() sim.Host { return func() sim.Host { return sim.NewMCU(cfg) } }
	return []scene{
		{
			name: "ayla", act: succeeds,
			setup: dialecttest.Setup{
				Dialect: ayla.Dialect{}, MCU: aylaMCU(sim.MCUConfig{}), Size: 600, Seed: 1, Reports: dialecttest.NewVersion,
			},
		},
		{
			// Noise in both directions, and the MCU loses its power while it is loaded.
			name: "ayla-faults",
			setup: dialecttest.Setup{
				Dialect: ayla.Dialect{}, MCU: aylaMCU(sim.MCUConfig{}), Size: 1500, Seed: 1, Reports: dialecttest.NewVersion,
				Line: sim.LineConfig{
					Seed: 3, ToMCU: sim.LineFaults{BitErrorRate: 0.0002, DropRate: 0.001}, FromMCU: sim.LineFaults{BitErrorRate: 0.001, DropRate: 0.002, DoubleRate: 0.002},
				},
			},
			act: func(r *dialecttest.Rig) {
				r.Session.Start(r.Update)
				for r.Loaded() < 600 {
					time.Sleep(time.Millisecond) // virtual
				}
				r.PowerOff()
				time.Sleep(100 * time.Millisecond)
				r.PowerOn()
				r.WantEnd(schemas.StateSucceeded, "")
			},
		},
		{
			name: "afero", act: succeeds,
			setup: dialecttest.Setup{
				Dialect: afero.Dialect{}, Config: dialect.Config{VersionProperties: []string{versionAttribute}},
				Line:    sim.LineConfig{Baud: 9600, BitsPerByte: 10, NoFlowControl: true},
				MCU:     func() sim.Host { return sim.NewAferoMCU(sim.AferoConfig{VersionID: 6, AttributeSize: 68}) },
				Size:    500,
				Seed:    1,
				Reports: "7",
				Update:  dialect.Update{VersionID: 7, NumericType: 101, AttributeSize: 68, VersionProperty: versionAttribute},
			},
		},
		{
			// Noise in both directions, and the MCU is reset in the middle of a message.
			name: "afero-faults",
			setup: dialecttest.Setup{
				Dialect: afero.Dialect{}, Config: dialect.Config{VersionProperties: []string{versionAttribute}},
				Line: sim.LineConfig{
					Baud: 9600, BitsPerByte: 10, NoFlowControl: true, Seed: 7,
					ToMCU: aferoToMCU, FromMCU: aferoFromMCU,
				},
				MCU:     func() sim.Host { return sim.NewAferoMCU(sim.AferoConfig{VersionID: 6, AttributeSize: 68}) },
				Size:    500,
				Seed:    1,
				Reports: "7",
				Update:  dialect.Update{VersionID: 7, NumericType: 101, AttributeSize: 68, VersionProperty: versionAttribute},
			},
			act: func(r *dialecttest.Rig) {
				r.Session.Start(r.Update)
				for r.Loaded() < 192 {
					time.Sleep(time.Millisecond) // virtual
				}
				_, before := r.Line.Stats()
				for {
					// Request and Ack for the next chunk, the same for its answer, and some of that.
					if _, now := r.Line.Stats(); now.Sent >= before.Sent+4*afpro.SyncSize+8 {
						break
					}
					time.Sleep(time.Millisecond)
				}
				// What its UART had not sent is lost, and it is back before the bridge misses it.
				r.Line.SetFaults(sim.LineFaults{}, sim.LineFaults{Dead: true})
				r.PowerOff()
				time.Sleep(50 * time.Millisecond)
				r.Line.SetFaults(aferoToMCU, aferoFromMCU)
				r.PowerOn()
				r.WantEnd(schemas.StateSucceeded, "")
			},
		},
	}
}

// The noise of the scene afero-faults.
var (
	aferoToMCU   = sim.LineFaults{DropRate: 0.001}
	aferoFromMCU = sim.LineFaults{BitErrorRate: 0.0001, DropRate: 0.001, DoubleRate: 0.001}
)

func succeeds(r *dialecttest.Rig) { r.Ends(schemas.StateSucceeded, "") }

// inWords is what a recording says.
func inWords(t *testing.T, b []byte) string {
	t.Helper()
	r, err := recording.NewReader(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		t.Fatal(err)
	}
	var s strings.Builder
	if err := sniff.Recording(r, func(p sniff.Packet) { fmt.Fprintln(&s, p) }); err != nil {
		t.Fatal(err)
	}
	return s.String()
}

// TestRecordings holds what the recordings in testdata say against the texts
// beside them. To make both anew:
//
//	go test ./bridge/sniff -run TestRecordings -update-recordings
func TestRecordings(t *testing.T) {
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			path := filepath.Join("testdata", s.name)
			if *updateRecordings {
				b := dialecttest.Record(t, s.setup, s.act)
				keep(t, path+recording.Suffix, b)
				keep(t, path+".txt", []byte(inWords(t, b)))
			}
			b, err := os.ReadFile(path + recording.Suffix)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(path + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			if got := inWords(t, b); got != string(want) {
				t.Errorf("%s says\n%s\nwant\n%s", path, got, want)
			}
		})
	}
}

func keep(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestCleanRecordingsAreUnderstood: an update on a line without faults has nothing
// in it that means nothing.
func TestCleanRecordingsAreUnderstood(t *testing.T) {
	for _, s := range scenes() {
		if strings.Contains(s.name, "faults") {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			for line := range strings.Lines(inWords(t, dialecttest.Record(t, s.setup, s.act))) {
				if strings.Contains(line, "> !") {
					t.Error(line)
				}
			}
		})
	}
}

// TestCutOffRecording: what stands before the cut is told, and so is the cut.
func TestCutOffRecording(t *testing.T) {
	b, err := os.ReadFile("testdata/ayla" + recording.Suffix)
	if err != nil {
		t.Fatal(err)
	}
	r, err := recording.NewReader(bytes.NewReader(b[:len(b)-3]))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := sniff.Recording(r, func(sniff.Packet) { n++ }); !errors.Is(err, recording.ErrCutOff) || n < 10 {
		t.Errorf("%d packets, %v", n, err)
	}
}
