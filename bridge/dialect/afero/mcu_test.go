package afero

import (
	"slices"
	"testing"
	"time"

	"davit/bridge/dialect/dialecttest"
	"davit/internal/sim"
	"davit/schemas"
)

// Peers behave differently; with all of these an update works.
func TestPeers(t *testing.T) {
	for _, c := range []struct {
		name string
		mcu  sim.AferoConfig
		line sim.LineConfig
	}{
		{name: "protocol version 2"},
		{name: "protocol version 1", mcu: sim.AferoConfig{Protocol: 1}},
		{name: "protocol version 1 without GET", mcu: sim.AferoConfig{Protocol: 1, NoGet: true}},
		{name: "version on request", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{Report: sim.ReportOnRequest}}},
		{name: "GET of the version is not known", mcu: sim.AferoConfig{NoGet: true}},
		{name: "SET in the place of UPDATE", mcu: sim.AferoConfig{SetVersion: true}},
		{name: "the whole struct in each OTA info", mcu: sim.AferoConfig{FullStruct: true}},
		{name: "attribute of 510", mcu: sim.AferoConfig{AttributeSize: 510}},
		{name: "attribute of 2046", mcu: sim.AferoConfig{AttributeSize: 2046}},
		{name: "forgets its offset", mcu: sim.AferoConfig{LosesOffset: true}},
		{name: "leaves the module alone", mcu: sim.AferoConfig{KeepsModule: true}},
		{name: "traffic of the product", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{Traffic: 200 * time.Millisecond}}},
		{name: "reacts late", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{Fault: sim.Fault{AckDelay: 300 * time.Millisecond}}}},
		{name: "syncs twice", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{Fault: sim.Fault{DoubleAcks: true}}}},
		{name: "misses ready bytes", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{Seed: 3, Fault: sim.Fault{LoseAcks: 0.1}}}},
		{name: "boots for 60 s", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{BootTime: time.Minute}}},
		{name: "slow flash", mcu: sim.AferoConfig{MCUConfig: sim.MCUConfig{WriteTime: 30 * time.Millisecond, EraseTime: time.Second}}},
		{name: "115200 baud", line: sim.LineConfig{Baud: 115_200}},
		{name: "16 ms adapter", line: sim.LineConfig{Latency: 16 * time.Millisecond, Jitter: 8 * time.Millisecond}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onRig(t, c.line, c.mcu, 5000, func(r *dialecttest.Rig) {
				r.Ends(schemas.StateSucceeded, "")
				if want := []string{"accepted", "installing", "booting"}; !slices.Equal(r.States(), want) {
					t.Errorf("states %v, want %v", r.States(), want)
				}
			})
		})
	}
}
