package app

import (
	"bytes"
	"strings"
	"testing"

	"davit/internal/mosquittotest"
	"davit/internal/sim"
	"davit/orchestrator"
	"davit/schemas"
)

// TestForeignBrokerIsLostInTheMiddleOfAnUpdate runs the service over another
// broker, which is killed and comes back without anything that it retained.
func TestForeignBrokerIsLostInTheMiddleOfAnUpdate(t *testing.T) {
	foreign := mosquittotest.Run(t)
	b := newBench(t)
	stop := b.serve(ExternalBroker{URL: foreign.URL(), Username: "service"})
	password := b.records()
	b.plug()
	b.bridge(foreign.URL(), "rack", password)
	image := sim.BuildDemoImage("2.0.0", imageSize, 1)
	b.roll(image, "2.0.0")
	b.awaitLoaded(imageSize / 4)
	foreign.Kill()
	b.awaitLoaded(imageSize / 2) // the serial leg goes on alone
	if err := Health(t.Context(), "http://"+b.http); err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("health without the broker: %v", err)
	}
	foreign.Start(t)
	b.awaitUpdated(image, stop)
}

// TestQuarantineOverForeignBroker: connections and logins are the other broker's, and so the
// device goes on being connected, but its offer is withdrawn in the middle of the update,
// it gets nothing, and when it is released the update is begun anew.
func TestQuarantineOverForeignBroker(t *testing.T) {
	foreign := mosquittotest.Run(t)
	b := newBench(t)
	b.serve(ExternalBroker{URL: foreign.URL(), Username: "service"})
	password := b.records()
	b.plug()
	b.bridge(foreign.URL(), "rack", password)
	image := sim.BuildDemoImage("2.0.0", imageSize, 1)
	b.roll(image, "2.0.0")
	b.awaitLoaded(imageSize / 4)
	execution := func() orchestrator.Execution {
		list, _, err := b.client.DeviceExecutions(t.Context(), "pump", orchestrator.Page{})
		if err != nil || len(list) != 1 {
			t.Fatalf("executions %+v, %v", list, err)
		}
		return list[0]
	}
	if _, err := b.client.QuarantineDevice(t.Context(), "pump", ""); err != nil {
		t.Fatal(err)
	}
	if x := execution(); x.State != schemas.StateQueued || x.Attempt != 2 {
		t.Errorf("in quarantine: %+v", x)
	}
	if d, err := b.client.Device(t.Context(), "pump"); err != nil || !d.Online || d.Versions[testImageType] == "2.0.0" {
		t.Errorf("in quarantine: %+v, %v", d, err)
	}
	if _, err := b.client.ReleaseDevice(t.Context(), "pump"); err != nil {
		t.Fatal(err)
	}
	until(t, "it is updated by the second attempt", func() bool { return execution().State.Final() })
	if x := execution(); x.State != schemas.StateSucceeded || x.Attempt != 2 || !bytes.Equal(b.mcu.RunningImage(), image) {
		t.Errorf("in the end: %+v", x)
	}
}
