package broker

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/internal/secrettest"
)

const (
	serviceName = "$davit"
	servicePass = secrettest.Mark + "service"
	patience    = 10 * time.Second
	// offline is what a presence topic says of a device that is gone.
	offline = `{"v":1,"online":false}`
)

// full says whether everything has to be there and slow variants run.
func full() bool { return os.Getenv("DAVIT_TEST_FULL") == "1" }

// program skips the test unless the program is installed.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if full() {
			t.Fatalf("%s is not installed, which DAVIT_TEST_FULL=1 asks for: %v", name, err)
		}
		t.Skipf("%s is not installed (Debian package mosquitto-clients)", name)
	}
	return path
}

// start runs a broker on free ports until the test ends. By default it has a
// TCP listener, the service and an empty credentials file. What it logs is searched for secrets.
func start(t testing.TB, change func(*Config)) *Broker {
	t.Helper()
	cfg := Config{
		Listeners:   []Listener{{Transport: TCP, Addr: "127.0.0.1:0"}},
		ServiceName: serviceName, ServicePassword: servicePass,
		Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	if cfg.Credentials == nil {
		cfg.Credentials = credentials(t)
	}
	cfg.Logger = secrettest.New(t).Logger(cfg.Logger.Handler())
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b
}

func credentials(t testing.TB) *Credentials {
	t.Helper()
	c, err := OpenCredentials(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// addDevice returns the login of a new device.
func addDevice(t testing.TB, b *Broker, id string) login {
	t.Helper()
	pw, err := b.cfg.Credentials.AddDevice(id)
	if err != nil {
		t.Fatal(err)
	}
	return login{id, secrettest.Plant(b.cfg.Logger, pw)}
}

type login struct{ user, password string }

func service() login { return login{serviceName, servicePass} }

func (b *Broker) addr() string { return b.Addrs()[0].String() }

// mqttConn is a raw client: it sends and receives single packets, so that a
// test decides about every byte. It uses mochi's codec, not mochi.
type mqttConn struct {
	net.Conn
	t       testing.TB
	version byte
	r       *bufio.Reader
	id      uint16
}

// connectOptions describe a CONNECT; MQTT 5 with a clean start by default.
type connectOptions struct {
	login
	version     byte
	clientID    string
	keepalive   uint16 // 0 is 60
	noKeepalive bool
	resume      bool // no clean start
	props       packets.Properties
	will        *packets.Packet
}

func dialTCP(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func rawClient(t testing.TB, c net.Conn, version byte) *mqttConn {
	return &mqttConn{Conn: c, t: t, version: version, r: bufio.NewReader(c)}
}

func connectPacket(o connectOptions) packets.Packet {
	if o.version == 0 {
		o.version = 5
	}
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Connect}, ProtocolVersion: o.version, Properties: o.props,
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), ClientIdentifier: o.clientID, Keepalive: o.keepalive, Clean: !o.resume,
			UsernameFlag: o.user != "", Username: []byte(o.user), PasswordFlag: o.password != "", Password: []byte(o.password),
		},
	}
	if o.keepalive == 0 && !o.noKeepalive {
		pk.Connect.Keepalive = 60
	}
	if w := o.will; w != nil {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, w.TopicName, w.Payload
		pk.Connect.WillQos, pk.Connect.WillRetain, pk.Connect.WillProperties = w.FixedHeader.Qos, w.FixedHeader.Retain, w.Properties
	}
	return pk
}

// try connects and returns the CONNACK, which may be a refusal.
func try(t testing.TB, addr string, o connectOptions) (*mqttConn, packets.Packet) {
	t.Helper()
	return tryOn(t, dialTCP(t, addr), o)
}

func tryOn(t testing.TB, conn net.Conn, o connectOptions) (*mqttConn, packets.Packet) {
	t.Helper()
	pk := connectPacket(o)
	c := rawClient(t, conn, pk.ProtocolVersion)
	c.send(pk)
	ack, err := c.next(patience)
	if err != nil {
		t.Fatalf("no CONNACK for %q: %v", o.user, err)
	}
	if ack.FixedHeader.Type != packets.Connack {
		t.Fatalf("%s %#x instead of CONNACK", packets.PacketNames[ack.FixedHeader.Type], ack.ReasonCode)
	}
	return c, ack
}

func connect(t testing.TB, addr string, o connectOptions) *mqttConn {
	t.Helper()
	c, ack := try(t, addr, o)
	if ack.ReasonCode != 0 {
		t.Fatalf("connect as %q refused: %#x %s", o.user, ack.ReasonCode, ack.Properties.ReasonString)
	}
	return c
}

func encode(pk packets.Packet) ([]byte, error) {
	var b bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&b)
	case packets.Publish:
		err = pk.PublishEncode(&b)
	case packets.Puback:
		err = pk.PubackEncode(&b)
	case packets.Subscribe:
		err = pk.SubscribeEncode(&b)
	case packets.Unsubscribe:
		err = pk.UnsubscribeEncode(&b)
	case packets.Pingreq:
		err = pk.PingreqEncode(&b)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&b)
	default:
		err = fmt.Errorf("no encoder for %s", packets.PacketNames[pk.FixedHeader.Type])
	}
	return b.Bytes(), err
}

// put sends and returns the error.
func (c *mqttConn) put(pk packets.Packet) error {
	pk.ProtocolVersion = c.version
	b, err := encode(pk)
	if err != nil {
		return err
	}
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	_, err = c.Write(b)
	return err
}

func (c *mqttConn) send(pk packets.Packet) {
	c.t.Helper()
	if err := c.put(pk); err != nil {
		c.t.Fatalf("send %s: %v", packets.PacketNames[pk.FixedHeader.Type], err)
	}
}

// next reads one packet, waiting at most d.
func (c *mqttConn) next(d time.Duration) (packets.Packet, error) {
	_ = c.SetReadDeadline(time.Now().Add(d))
	return readPacket(c.r, c.version)
}

func readPacket(r *bufio.Reader, version byte) (packets.Packet, error) {
	pk := packets.Packet{ProtocolVersion: version}
	b, err := r.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(b); err != nil {
		return pk, err
	}
	n, _, err := packets.DecodeLength(r)
	if err != nil {
		return pk, err
	}
	pk.FixedHeader.Remaining = n
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return pk, err
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	return pk, err
}

// expect reads until a packet of the type comes.
func (c *mqttConn) expect(kind byte) packets.Packet {
	c.t.Helper()
	for {
		pk, err := c.next(patience)
		if err != nil {
			c.t.Fatalf("waiting for %s: %v", packets.PacketNames[kind], err)
		}
		if pk.FixedHeader.Type == kind {
			return pk
		}
	}
}

// quiet makes sure that nothing unexpected comes before the answer to a ping.
// A message that the broker's write loop is about to send may still come after.
func (c *mqttConn) quiet() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	pk, err := c.next(patience)
	if err != nil {
		c.t.Fatal(err)
	}
	if pk.FixedHeader.Type != packets.Pingresp {
		c.t.Fatalf("unexpected %s %q", packets.PacketNames[pk.FixedHeader.Type], pk.TopicName)
	}
}

func (c *mqttConn) subscribe(qos byte, filters ...string) []byte {
	c.t.Helper()
	c.id++
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: c.id}
	for _, f := range filters {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: f, Qos: qos})
	}
	c.send(pk)
	return c.expect(packets.Suback).ReasonCodes
}

func publishPacket(topic string, qos byte, retain bool, payload string) packets.Packet {
	return packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos, Retain: retain},
		TopicName:   topic, Payload: []byte(payload),
	}
}

// publish sends and, with QoS 1, returns the reason code of the PUBACK.
func (c *mqttConn) publish(topic string, qos byte, retain bool, payload string) byte {
	c.t.Helper()
	pk := publishPacket(topic, qos, retain, payload)
	if qos > 0 {
		c.id++
		pk.PacketID = c.id
	}
	c.send(pk)
	if qos == 0 {
		return 0
	}
	ack := c.expect(packets.Puback)
	if ack.PacketID != pk.PacketID {
		c.t.Fatalf("PUBACK for %d, expected %d", ack.PacketID, pk.PacketID)
	}
	return ack.ReasonCode
}

// message waits for a PUBLISH and acknowledges it.
func (c *mqttConn) message() packets.Packet {
	c.t.Helper()
	pk := c.expect(packets.Publish)
	if pk.FixedHeader.Qos == 1 {
		c.ack(pk.PacketID)
	}
	return pk
}

func (c *mqttConn) ack(id uint16) {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
}

// ended waits until the server closes the connection, and returns the reason
// of its DISCONNECT, if one came.
func (c *mqttConn) ended() byte {
	c.t.Helper()
	var reason byte
	for {
		pk, err := c.next(patience)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			c.t.Fatal("the connection is still open")
		case err != nil:
			return reason
		case pk.FixedHeader.Type == packets.Disconnect:
			reason = pk.ReasonCode
		}
	}
}

// eventually polls for a condition on which no channel tells.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// number returns the decimal number that a test put into a payload.
func number(t testing.TB, payload []byte) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(string(payload)))
	if err != nil {
		t.Fatalf("payload %q: %v", payload, err)
	}
	return n
}

func rawReader(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

func asTimeout(err error, timeout *net.Error) bool {
	return errors.As(err, timeout) && (*timeout).Timeout()
}
