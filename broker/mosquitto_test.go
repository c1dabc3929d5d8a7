package broker

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/schemas"
)

// mosquitto runs mosquitto_pub or mosquitto_sub, foreign clients that know
// nothing of us.
func mosquitto(t *testing.T, name, addr string, who login, args ...string) *exec.Cmd {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	all := append([]string{"-h", host, "-p", port, "-u", who.user, "-P", who.password}, args...)
	return exec.CommandContext(ctx, program(t, name), all...)
}

func TestMosquittoClients(t *testing.T) {
	for _, version := range []string{"mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			b := start(t, nil)
			foreignDevice(t, b, version)
		})
	}
}

// foreignDevice plays a module with the two programs: it gets the retained
// offer, acks and a chunk, and reports a status; what is not its own is refused.
func foreignDevice(t *testing.T, b *Broker, version string) {
	pump := addDevice(t, b, "pump-7")
	svc := connect(t, b.addr(), connectOptions{login: service()})
	svc.subscribe(1, schemas.SharedFilter("davit", schemas.KindStatus), schemas.Filter(schemas.KindPresence))
	svc.publish(topic("pump-7", schemas.KindOffer), 1, true, "the offer")

	var got bytes.Buffer
	sub := mosquitto(t, "mosquitto_sub", b.addr(), pump, "-V", version, "-i", "m", "-q", "1", "-C", "3", "-F", "%t %q %r %p",
		"-t", topic("pump-7", schemas.KindOffer), "-t", topic("pump-7", schemas.KindAck), "-t", topic("pump-7", schemas.KindChunk),
		"--will-topic", topic("pump-7", schemas.KindPresence), "--will-payload", offline, "--will-retain", "--will-qos", "1")
	sub.Stdout, sub.Stderr = &got, &got
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "mosquitto_sub has subscribed", func() bool {
		return len(b.index.find(topic("pump-7", schemas.KindChunk))) == 1 // the last of three
	})
	svc.publish(topic("pump-7", schemas.KindAck), 1, false, "the ack")
	svc.publish(topic("pump-8", schemas.KindAck), 1, false, "not for it")
	svc.publish(topic("pump-7", schemas.KindChunk), 0, false, "the chunk")
	if err := sub.Wait(); err != nil {
		t.Fatalf("mosquitto_sub: %v\n%s", err, got.String())
	}
	lines := strings.Split(strings.TrimSpace(got.String()), "\n")
	slices.Sort(lines)
	want := []string{"davit/v1/pump-7/ack 1 0 the ack", "davit/v1/pump-7/chunk 0 0 the chunk", "davit/v1/pump-7/offer 1 1 the offer"}
	if !slices.Equal(lines, want) {
		t.Errorf("mosquitto_sub got\n%s", got.String())
	}

	for _, c := range []struct {
		to   string
		qos  string
		args []string
	}{
		{topic("pump-7", schemas.KindStatus), "1", nil},
		{topic("pump-8", schemas.KindStatus), "1", nil}, // refused, and the program is none the worse
		{topic("pump-7", schemas.KindOffer), "1", []string{"-r"}},
		{topic("pump-7", schemas.KindStatus), "0", nil},
		{topic("pump-7", schemas.KindPresence), "1", []string{"-r"}},
	} {
		args := append([]string{"-V", version, "-q", c.qos, "-t", c.to, "-m", c.to + " " + c.qos}, c.args...)
		out, err := mosquitto(t, "mosquitto_pub", b.addr(), pump, args...).CombinedOutput()
		if refused := strings.Contains(c.to, "pump-8") || strings.HasSuffix(c.to, "offer"); err != nil && !refused {
			t.Fatalf("mosquitto_pub %s: %v\n%s", c.to, err, out)
		}
	}
	// Each program has a connection of its own, so their messages may overtake one another; mosquitto_sub ended without
	// a word about it, and so did the last mosquitto_pub.
	words := []string{
		offline, topic("pump-7", schemas.KindStatus) + " 1", topic("pump-7", schemas.KindStatus) + " 0",
		topic("pump-7", schemas.KindPresence) + " 1", offline,
	}
	var arrived []string
	for range words {
		arrived = append(arrived, string(svc.message().Payload))
	}
	slices.Sort(words)
	if slices.Sort(arrived); !slices.Equal(arrived, words) {
		t.Errorf("%q arrived, want %q", arrived, words)
	}
	svc.quiet()
}

func TestMosquittoRefusals(t *testing.T) {
	b := start(t, nil)
	pump := addDevice(t, b, "pump-7")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for name, who := range map[string]login{"wrong": {"pump-7", "wrong"}, "unknown": {"pump-8", pump.password}} {
			out, err := mosquitto(t, "mosquitto_pub", b.addr(), who, "-V", version, "-q", "1", "-t", topic("pump-7", schemas.KindHello), "-m", "x").CombinedOutput()
			said := strings.ToLower(string(out)) // MQTT 3.1.1 and 5 have different codes for it
			if err == nil || !strings.Contains(said, "not authori") && !strings.Contains(said, "bad user name or password") {
				t.Errorf("%s, %s: %v: %s", version, name, err, out)
			}
		}
		out, err := mosquitto(t, "mosquitto_sub", b.addr(), pump, "-V", version, "-t", "#", "-W", "1", "-E").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "denied") {
			t.Errorf("%s: subscribe to everything: %v: %s", version, err, out)
		}
	}
}

// mosquitto_sub with a persistent session is told that there is none, and
// gets the retained offer again each time.
func TestMosquittoPersistentSession(t *testing.T) {
	b := start(t, nil)
	pump := addDevice(t, b, "pump-7")
	svc := connect(t, b.addr(), connectOptions{login: service()})
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for i := range 2 {
			svc.publish(topic("pump-7", schemas.KindOffer), 1, true, fmt.Sprint(version, i))
			out, err := mosquitto(t, "mosquitto_sub", b.addr(), pump, "-V", version, "-i", "m", "-c", "-q", "1", "-C", "1",
				"-t", topic("pump-7", schemas.KindOffer)).CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(version, i) {
				t.Errorf("%s: %v: %s", version, err, out)
			}
		}
	}
}

func TestMosquittoOverTLS(t *testing.T) {
	certFile, keyFile, _ := serverCertificate(t)
	conf, err := loadTLS(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, func(c *Config) { c.Listeners = []Listener{{Transport: TCP, Addr: "127.0.0.1:0", TLS: conf}} })
	pump := addDevice(t, b, "pump-7")
	out, err := mosquitto(t, "mosquitto_pub", b.addr(), pump, "-V", "mqttv5", "--cafile", certFile, "-q", "1",
		"-t", topic("pump-7", schemas.KindPresence), "-r", "-m", offline).CombinedOutput()
	if err != nil {
		t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
	if pk, ok := b.server.Topics.Retained.Get(topic("pump-7", schemas.KindPresence)); !ok || string(pk.Payload) != offline {
		t.Errorf("retained %t: %q", ok, pk.Payload)
	}
}
