package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"davit/broker"
)

const (
	serviceUser = "davit-service"
	servicePass = "service-password"
)

// testBroker is a broker that a test may stop and start again on the same
// port.
type testBroker interface {
	URL() string
	Start(t testing.TB)
	Stop(t testing.TB)
	// Login lets somebody in who acts for these devices and returns the password.
	Login(t testing.TB, name string, devices ...string) string
}

// embedded is the real neighbour, davit/broker. Only the tests may import it;
// the gateway itself knows any broker by its URL.
type embedded struct {
	port        int
	credentials *broker.Credentials
	more        []broker.Listener // beside the plain one
	addrs       []net.Addr
	stop        func()
}

func newEmbedded(t testing.TB) testBroker {
	t.Helper()
	c, err := broker.OpenCredentials(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &embedded{port: freePort(t), credentials: c}
	b.Start(t)
	t.Cleanup(func() { b.Stop(t) })
	return b
}

func (b *embedded) URL() string { return fmt.Sprintf("mqtt://127.0.0.1:%d", b.port) }

func (b *embedded) Start(t testing.TB) {
	t.Helper()
	br, err := broker.New(broker.Config{
		Listeners:   append([]broker.Listener{{Transport: broker.TCP, Addr: fmt.Sprintf("127.0.0.1:%d", b.port)}}, b.more...),
		Credentials: b.credentials, ServiceName: serviceUser, ServicePassword: servicePass, Logger: testLog(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- br.Run(ctx) }()
	<-br.Ready()
	b.addrs = br.Addrs()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func (b *embedded) Stop(testing.TB) {
	if b.stop != nil {
		b.stop()
	}
	b.stop = nil
}

func (b *embedded) Login(t testing.TB, name string, devices ...string) string {
	t.Helper()
	for _, p := range b.credentials.List() {
		if p.Name == name {
			password, err := b.credentials.Rotate(name)
			if err != nil {
				t.Fatal(err)
			}
			return password
		}
	}
	var password string
	var err error
	if len(devices) == 0 {
		password, err = b.credentials.AddDevice(name)
	} else {
		password, err = b.credentials.AddBridge(name, devices)
	}
	if err != nil {
		t.Fatal(err)
	}
	return password
}

// mosquitto is a foreign broker, which keeps nothing over a restart.
type mosquitto struct {
	port   int
	dir    string
	cmd    *exec.Cmd
	output bytes.Buffer
}

// newMosquitto starts mosquitto, or skips the test if the program is missing.
func newMosquitto(t testing.TB) testBroker {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/mosquitto")
	}
	if err != nil {
		if os.Getenv("DAVIT_TEST_FULL") == "1" {
			t.Fatal("mosquitto is not installed, and DAVIT_TEST_FULL=1 wants it: apt-get install mosquitto")
		}
		t.Skip("mosquitto is not installed: apt-get install mosquitto")
	}
	m := &mosquitto{port: freePort(t), dir: t.TempDir()}
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\n", m.port)
	if err := os.WriteFile(filepath.Join(m.dir, "conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	m.cmd = &exec.Cmd{Path: path}
	m.Start(t)
	t.Cleanup(func() { m.Stop(t) })
	return m
}

func freePort(t testing.TB) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port
}

func (m *mosquitto) URL() string { return fmt.Sprintf("mqtt://127.0.0.1:%d", m.port) }

// Login has nothing to do: this broker lets everybody in.
func (m *mosquitto) Login(testing.TB, string, ...string) string { return "" }

func (m *mosquitto) Start(t testing.TB) {
	t.Helper()
	m.cmd = exec.Command(m.cmd.Path, "-c", filepath.Join(m.dir, "conf"))
	m.cmd.Stdout, m.cmd.Stderr = &m.output, &m.output
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.port))
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("mosquitto does not listen: %v\n%s", err, m.output.String())
		}
	}
}

func (m *mosquitto) Stop(t testing.TB) {
	t.Helper()
	if m.cmd.Process == nil || m.cmd.ProcessState != nil {
		return
	}
	if err := m.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = m.cmd.Wait() // it says "killed"
}
