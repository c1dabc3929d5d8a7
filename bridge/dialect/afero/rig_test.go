package afero

import (
	"io"
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

// tap is a line on which a test listens to the bridge.
type tap struct {
	io.ReadWriteCloser
	sent func(afpro.Message)
}

// Write hands on what the bridge writes; a message is a write of its own, between
// ready bytes.
func (l *tap) Write(b []byte) (int, error) {
	if len(b) > 2 && b[0] == afpro.Ready {
		if m, err := afpro.ParseMessage(b[1 : len(b)-1]); err == nil {
			l.sent(m)
		}
	}
	return l.ReadWriteCloser.Write(b)
}

// tapped is the dialect on lines with a tap.
type tapped struct {
	Dialect
	sent func(afpro.Message)
}

// NewSession implements dialect.Dialect.
func (d tapped) NewSession(line io.ReadWriteCloser, cfg dialect.Config, e dialect.Events) dialect.Session {
	return d.Dialect.NewSession(&tap{line, d.sent}, cfg, e)
}

// onRig runs f with a session that has not been asked for an update yet.
func onRig(t *testing.T, line sim.LineConfig, mcu sim.AferoConfig, size int, f func(r *dialecttest.Rig)) {
	t.Helper()
	run(t, Dialect{}, line, mcu, size, f)
}

func run(t *testing.T, d dialect.Dialect, line sim.LineConfig, mcu sim.AferoConfig, size int, f func(r *dialecttest.Rig)) {
	t.Helper()
	if mcu.VersionID == 0 {
		mcu.VersionID = oldID
	}
	if line.Baud == 0 {
		line.Baud = 9600
	}
	line.BitsPerByte, line.NoFlowControl = 10, true
	dialecttest.Run(t, dialecttest.Setup{
		Dialect: d, Config: dialect.Config{Baud: line.Baud, VersionProperties: []string{property}},
		Line: line, MCU: func() sim.Host { return sim.NewAferoMCU(mcu) },
		Size: size, Seed: mcu.Seed + 1, Reports: strconv.Itoa(newID),
		Update: dialect.Update{
			VersionID: newID, NumericType: firmwareType, AttributeSize: mcu.AttributeSize, BootTimeout: 90 * time.Second,
		},
	}, f)
}
