package app

import (
	"testing"

	"davit/internal/sim"
	"davit/orchestrator"
)

// imageSize takes a little over a second on the bench's line.
const imageSize = 24 << 10

// TestServiceIsRestartedInTheMiddleOfAnUpdate ends the service in order, or kills
// it (kill -9).
func TestServiceIsRestartedInTheMiddleOfAnUpdate(t *testing.T) {
	t.Parallel()
	inOrder := func(b *bench) func() { return b.serve(ExternalBroker{}) }
	for _, tt := range []struct {
		name, dialect string
		serve         func(b *bench) (end func())
	}{
		{"in order", orchestrator.DialectAyla, inOrder},
		{"killed", orchestrator.DialectAyla, (*bench).serveKillable},
		{"afero, killed", orchestrator.DialectAfero, (*bench).serveKillable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.dialect = tt.dialect
			end := tt.serve(b)
			password := b.records()
			b.plug()
			b.bridge("mqtt://"+b.mqtt, "rack", password)
			image := sim.BuildDemoImage("2.0.0", imageSize, 1)
			b.roll(image, "2.0.0")
			b.awaitLoaded(imageSize / 4)
			end()
			b.awaitLoaded(imageSize / 2) // the serial leg goes on alone
			stop := b.serve(ExternalBroker{})
			b.awaitUpdated(image, stop)
			if n := b.offered(); n != 1 {
				t.Errorf("the MCU was offered the image %d times; a restart of the service is none of its business", n)
			}
		})
	}
}

func TestServiceIsGoneWhileTheUpdateEnds(t *testing.T) {
	b := newBench(t)
	stop := b.serve(ExternalBroker{})
	password := b.records()
	b.plug()
	b.bridge("mqtt://"+b.mqtt, "rack", password)
	image := sim.BuildDemoImage("2.0.0", imageSize/4, 1)
	b.roll(image, "2.0.0")
	b.awaitLoaded(imageSize / 16)
	stop()
	b.awaitLoaded(imageSize / 4)
	stop = b.serve(ExternalBroker{})
	b.awaitUpdated(image, stop)
}

func TestBridgeIsRestartedInTheMiddleOfAnUpdate(t *testing.T) {
	t.Parallel()
	for _, dialect := range orchestrator.Dialects() {
		t.Run(dialect, func(t *testing.T) {
			b := newBench(t)
			b.dialect = dialect
			stop := b.serve(ExternalBroker{})
			password := b.records()
			b.plug()
			stopBridge := b.bridge("mqtt://"+b.mqtt, "rack", password)
			image := sim.BuildDemoImage("2.0.0", imageSize, 1)
			b.roll(image, "2.0.0")
			b.awaitLoaded(imageSize / 2)
			stopBridge()
			b.bridge("mqtt://"+b.mqtt, "rack", password)
			b.awaitUpdated(image, stop)
		})
	}
}
