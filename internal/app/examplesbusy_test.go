package app

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"davit/schemas"
)

// TestExampleComesBackWhenTold: the example in C stays away for as long as a busy service asks, which is longer here than
// it waits after a first failure. The time is real: three seconds.
func TestExampleComesBackWhenTold(t *testing.T) {
	t.Parallel()
	const asked = 3 * time.Second
	argv := compiledModule(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("planted-secret-example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(l.Addr().String())
	m := &exampleModule{t: t, folder: dir, argv: append(argv, host, port, "pump", password, dir)}
	m.start()
	defer func() { _ = m.end(os.Kill) }() // it says that it was killed
	advice := mqttString(mqttString([]byte{0x26}, schemas.RetryAfterProperty), schemas.FormatRetryAfter(asked))
	busy := mqttPacket(nil, mqttConnack<<4, append([]byte{0, mqttServerBusy, byte(len(advice))}, advice...))
	var told time.Time
	for range 2 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if away := time.Since(told); away < asked {
			t.Errorf("it was asked to stay away for %v and came back after %v", asked, away)
		}
		if _, connect, err := readMQTT(bufio.NewReader(c)); err != nil || connect[6] != 5 {
			t.Fatalf("no CONNECT of MQTT 5: %x, %v", connect, err)
		}
		told = time.Now()
		if _, err := c.Write(busy); err != nil {
			t.Fatal(err)
		}
		_ = c.Close() // as the service does
	}
}
