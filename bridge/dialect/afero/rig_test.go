package afero

import (
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"davit/bridge/dialect"
	"davit/bridge/dialect/dialecttest"
	"davit/internal/sim" // the simulated MCU speaks the wire on its own, as a product would
	"davit/schemas/afpro"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The image's version id, and that of what the MCU runs before.
const (
	newID = 7
	oldID = 6
)

const firmwareType = 101

// property is the attribute that reports the version.
var property = strconv.Itoa(int(afpro.VersionAttribute(firmwareType)))

// onRig runs f with a session that has not been asked for an update yet.
func onRig(t *testing.T, line sim.LineConfig, mcu sim.AferoConfig, size int, f func(r *dialecttest.Rig)) {
	t.Helper()
	if line.Baud == 0 {
		line.Baud = 9600
	}
	line.BitsPerByte, line.NoFlowControl = 10, true
	if mcu.VersionID == 0 {
		mcu.VersionID = oldID
	}
	dialecttest.Run(t, dialecttest.Setup{
		Dialect: Dialect{}, Config: dialect.Config{Baud: line.Baud, VersionProperties: []string{property}},
		Line: line, MCU: func() sim.Host { return sim.NewAferoMCU(mcu) },
		Size: size, Seed: mcu.Seed + 1, Reports: strconv.Itoa(newID),
		Update: dialect.Update{
			VersionID: newID, NumericType: firmwareType, AttributeSize: mcu.AttributeSize, BootTimeout: 90 * time.Second,
		},
	}, f)
}
