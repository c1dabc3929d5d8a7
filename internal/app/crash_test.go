package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"go.uber.org/goleak"

	"davit/internal/client"
	"davit/orchestrator"
	"davit/schemas"
)

// envChild makes the test binary a service on the folder that it names, to be
// killed.
const envChild = "DAVIT_TEST_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envChild); dir != "" {
		serveChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func serveChild(dir string) {
	LimitGarbage()
	go GiveBackMemory(context.Background())
	profileOnSignal()
	s, err := NewServer(ServerOptions{
		Data: dir, MQTT: "127.0.0.1:0", HTTP: "127.0.0.1:0",
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		<-s.Ready()
		_ = json.NewEncoder(os.Stdout).Encode(s.Addresses())
	}()
	if err := s.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// killable starts a service in a process of its own.
func killable(t testing.TB, dir string) (a Addresses, kill func()) {
	t.Helper()
	a, _, kill = serveProcess(t, dir)
	return a, kill
}

// serveProcess is killable that tells the process as well.
func serveProcess(t testing.TB, dir string) (a Addresses, pid int, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envChild+"="+dir)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &a); err != nil {
		t.Fatal(err)
	}
	return a, cmd.Process.Pid, kill
}

// reporter is a foreign module for many devices: it takes every offer and
// reports progress on all of them as fast as it is acknowledged.
type reporter struct {
	t    *testing.T
	mqtt *paho.Client

	mu    sync.Mutex
	acked map[string]uint64 // the highest acknowledged sequence by execution
	total int
	done  chan struct{} // closed when total has reached enough
}

// enough acknowledged reports are on disk when the service is killed.
const enough = 1500

func (r *reporter) received(p paho.PublishReceived) (bool, error) {
	topic, err := schemas.ParseTopic(p.Packet.Topic)
	if err != nil {
		return true, nil
	}
	switch topic.Kind {
	case schemas.KindOffer:
		var o schemas.Offer
		if schemas.Decode(p.Packet.Payload, &o) == nil {
			go r.report(topic.Device, schemas.Status{V: 1, Execution: o.Execution, Attempt: o.Attempt, Seq: 1, State: schemas.StateAccepted})
		}
	case schemas.KindAck:
		var a schemas.Ack
		if err := schemas.Decode(p.Packet.Payload, &a); err != nil {
			r.t.Errorf("ack: %v", err)
			return true, nil
		}
		r.mu.Lock()
		r.acked[a.Execution] = max(r.acked[a.Execution], a.Seq)
		if r.total++; r.total == enough {
			close(r.done)
		}
		r.mu.Unlock()
		go r.report(topic.Device, schemas.Status{
			V: 1, Execution: a.Execution, Attempt: a.Attempt, Seq: a.Seq + 1, State: schemas.StateDownloading, BytesDone: a.Seq,
		})
	}
	return true, nil
}

func (r *reporter) report(device string, s schemas.Status) {
	payload, err := schemas.Encode(&s)
	if err != nil {
		r.t.Error(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// The service is killed in the middle: what cannot be sent then is the test's intent.
	_, _ = r.mqtt.Publish(ctx, &paho.Publish{Topic: schemas.Topic{Device: device, Kind: schemas.KindStatus}.String(), QoS: 0, Payload: payload})
}

func newReporter(t *testing.T, addr, username, password string, devices []string) *reporter {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &reporter{t: t, acked: map[string]uint64{}, done: make(chan struct{})}
	r.mqtt = paho.NewClient(paho.ClientConfig{
		Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){r.received}, OnClientError: func(error) {},
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = r.mqtt.Connect(ctx, &paho.Connect{
		ClientID: username, KeepAlive: 30, CleanStart: true, UsernameFlag: true, Username: username, PasswordFlag: true, Password: []byte(password),
	})
	if err != nil {
		t.Fatal(err)
	}
	var subs []paho.SubscribeOptions
	for _, d := range devices {
		for _, k := range []schemas.Kind{schemas.KindOffer, schemas.KindAck} {
			subs = append(subs, paho.SubscribeOptions{Topic: schemas.Topic{Device: d, Kind: k}.String(), QoS: k.QoS()})
		}
	}
	if _, err := r.mqtt.Subscribe(ctx, &paho.Subscribe{Subscriptions: subs}); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestKilledServiceHasLostNothingThatItAcknowledged kills the service (kill -9)
// while it records reports of 48 devices.
func TestKilledServiceHasLostNothingThatItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	addrs, kill := killable(t, dir)
	c := clientFor(t, dir, addrs.HTTP)
	var devices []string
	for i := range 48 {
		devices = append(devices, fmt.Sprintf("d%02d", i))
	}
	password := fleetRecords(t, c, devices)
	r := newReporter(t, addrs.MQTT, "rack", password, devices)
	select {
	case <-r.done:
	case <-time.After(patience):
		t.Fatalf("%d reports were acknowledged, want %d", r.total, enough)
	}
	kill()
	<-r.mqtt.Done()

	report, err := Check(t.Context(), dir)
	if err != nil || !report.OK() {
		t.Fatalf("check after kill -9: %s, %v", strings.Join(report.Violations, "; "), err)
	}
	s, _ := startServer(t, testOptions(t, dir))
	c = clientFor(t, dir, s.Addresses().HTTP)
	_, executions, err := c.Job(t.Context(), "job")
	if err != nil || len(executions) != len(devices) {
		t.Fatalf("%d executions, %v", len(executions), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range executions {
		if e.Seq < r.acked[e.ID] {
			t.Errorf("%s: report %d was acknowledged, the records have %d", e.Device, r.acked[e.ID], e.Seq)
		}
	}
}

func clientFor(t testing.TB, dir, addr string) *client.Client {
	t.Helper()
	token, err := ReadToken(TokenFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New("http://"+addr, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// fleetRecords makes devices behind one bridge and starts a job for them all;
// it returns the bridge's password.
func fleetRecords(t *testing.T, c *client.Client, devices []string) string {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.CreateImageType(ctx, orchestrator.NewImageType{ID: testImageType})
	must(err)
	_, err = c.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: testDeviceType, Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: testImageType}}})
	must(err)
	for _, d := range devices {
		_, err = c.CreateDevice(ctx, orchestrator.NewDevice{ID: d, Type: testDeviceType})
		must(err)
	}
	b, err := c.CreateBridge(ctx, "rack", devices)
	must(err)
	i, err := c.UploadImage(ctx, orchestrator.NewImage{ImageType: testImageType, DeviceTypes: []string{testDeviceType}, Version: "2.0.0"}, bytes.NewReader(make([]byte, 1<<20)))
	must(err)
	_, err = c.CreateJob(ctx, orchestrator.NewJob{Name: "job", Image: i.ID, Devices: devices, Start: true})
	must(err)
	return b.Password
}
