package app

import (
	"testing"

	"davit/internal/sim"
)

// imageSize takes a little over a second on the bench's line.
const imageSize = 24 << 10

func TestServiceIsRestartedInTheMiddleOfAnUpdate(t *testing.T) {
	b := newBench(t)
	stop := b.serve(ExternalBroker{})
	password := b.records()
	b.plug()
	b.bridge("mqtt://"+b.mqtt, "rack", password)
	image := sim.BuildDemoImage("2.0.0", imageSize, 1)
	b.roll(image, "2.0.0")
	b.awaitLoaded(imageSize / 4)
	stop()
	b.awaitLoaded(imageSize / 2) // the serial leg goes on alone
	stop = b.serve(ExternalBroker{})
	b.awaitUpdated(image, stop)
	if n := b.mcu.Stats().Offers; n != 1 {
		t.Errorf("the MCU was offered the image %d times; a restart of the service is none of its business", n)
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
	b := newBench(t)
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
}
