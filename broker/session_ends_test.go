package broker

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/schemas"
)

// flood sends the image again and again, until the session ends. It returns
// when the session takes no more for the moment, which for a client that does
// not read soon is for ever. Calling ready twice would panic.
func (m module) flood(t *testing.T, image *testImage) <-chan error {
	ended := make(chan error, 1)
	chunks := chunksOf(image, 16<<10)
	go func() {
		for {
			if err := (sender{m.user, m.Session, image}).send(chunks); err != nil {
				ended <- err
				return
			}
		}
	}()
	eventually(t, "the session takes no more", m.waits)
	return ended
}

func (m module) waits() bool {
	c := m.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting.fed)+len(c.waiting.starved) > 0
}

// However a session ends while its client does not read: who sends is told, and
// nobody goes on needing the image.
func TestSessionOfAStalledClientEnds(t *testing.T) {
	certFile, keyFile, pool := serverCertificate(t)
	conf, err := loadTLS(certFile, keyFile)
	check(t, err)
	for transport, dial := range map[string]func(b *Broker) net.Conn{
		"tcp": func(b *Broker) net.Conn { return dialTCP(t, b.Addrs()[0].String()) },
		"tls": func(b *Broker) net.Conn { return dialTLS(t, b.Addrs()[1].String(), pool) },
		"ws":  func(b *Broker) net.Conn { return dialWS(t, b.Addrs()[2].String(), nil, 1<<20) },
	} {
		for name, end := range map[string]func(t *testing.T, b *Broker, m module){
			"by a take-over": func(t *testing.T, b *Broker, m module) {
				connect(t, b.addr(), connectOptions{login: m.login, clientID: "m"})
			},
			"by Stop":       func(_ *testing.T, b *Broker, _ module) { b.Stop() },
			"by revocation": func(t *testing.T, b *Broker, m module) { check(t, b.cfg.Credentials.Remove(m.user)) },
			"by its client": func(t *testing.T, _ *Broker, m module) { _ = m.mqttConn.Close() },
			"by abort":      func(_ *testing.T, _ *Broker, m module) { m.conn.abort() },
			"by goodbye": func(_ *testing.T, _ *Broker, m module) {
				m.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
			},
			"by a bad packet": func(_ *testing.T, _ *Broker, m module) { _, _ = m.Write([]byte("\xff\xff\xff\xff\xff\xff")) },
		} {
			if transport != "tcp" && name != "by abort" && name != "by revocation" {
				continue // closing at once and closing in order are all that these know
			}
			t.Run(transport+" "+name, func(t *testing.T) {
				t.Parallel()
				b, fetches := fetchingBroker(t, func(c *Config) {
					c.Listeners = []Listener{{Transport: TCP, Addr: "127.0.0.1:0"}, {Transport: TCP, Addr: "127.0.0.1:0", TLS: conf}, {Transport: WebSocket, Addr: "127.0.0.1:0"}}
				})
				m := moduleOn(t, dial(b), addDevice(t, b, "d"), fetches, connectOptions{clientID: "m"})
				image := newImage(1 << 20)
				ended := m.flood(t, image)
				end(t, b, m)
				select {
				case err := <-ended:
					// What is taken away is told in the order in which it goes.
					if !errors.Is(err, ErrSessionEnded) && !errors.Is(err, ErrNotSubscribed) {
						t.Error(err)
					}
				case <-time.After(patience):
					t.Fatal("who sends is not told")
				}
				image.free(t)
				eventually(t, "nobody waits", func() bool { return testutil.ToFloat64(b.metrics.chunks.slow) == 0 })
			})
		}
	}
}

// A client that reads nothing for a while loses nothing but time: it is heard,
// what waits for it is one packet and the words of mochi, and it can go on.
func TestSlowClientKeepsItsSession(t *testing.T) {
	for _, version := range []byte{4, 5} {
		b, fetches := fetchingBroker(t, nil)
		svc := connect(t, b.addr(), connectOptions{login: service()})
		svc.subscribe(1, schemas.Filter(schemas.KindStatus))
		m := moduleOn(t, dialTCP(t, b.addr()), addDevice(t, b, "d"), fetches, connectOptions{version: version}, topic("d", schemas.KindOffer))
		image := newImage(1 << 20)
		ended := m.flood(t, image)
		const words = 20
		for range words {
			pk := publishPacket(topic("d", schemas.KindStatus), 1, false, "alive")
			pk.PacketID = 77
			m.send(pk)
			if pk := svc.message(); string(pk.Payload) != "alive" {
				t.Fatalf("%q", pk.Payload)
			}
			svc.publish(topic("d", schemas.KindOffer), 1, true, "offer")
		}
		c := m.conn
		eventually(t, "all words wait", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.out.size()+c.writing >= words*4
		})
		c.mu.Lock()
		if n := c.out.size() + c.writing; n > words*100 {
			t.Errorf("%d bytes wait", n)
		}
		c.mu.Unlock()
		if n := image.retained.Load(); n != 1 {
			t.Errorf("the image is retained %d times", n)
		}
		// It goes on reading.
		chunks := chunksOf(image, 16<<10)
		var acks, offers int
		for i := 0; i < 2000; {
			pk, err := m.next(patience)
			check(t, err)
			switch {
			case pk.FixedHeader.Type == packets.Puback:
				acks++
			case pk.TopicName == topic("d", schemas.KindOffer):
				offers++
			case !bytes.Equal(pk.Payload, image.payload(t, chunks[i%len(chunks)])):
				t.Fatalf("MQTT %d: packet with %d bytes of payload is not chunk %d", version, len(pk.Payload), i)
			default:
				i++
			}
		}
		if acks != words || offers != words {
			t.Errorf("MQTT %d: %d acknowledgements and %d offers came, want %d", version, acks, offers, words)
		}
		_ = m.mqttConn.Close()
		<-ended
		image.free(t)
	}
}

// pipes is a listener in memory, whose connections know virtual time.
type pipes struct {
	waiting chan net.Conn
	closed  chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.waiting:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }
func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.waiting <- theirs
	return ours
}

// A client that reads nothing keeps its connection as long as it sends
// something within its keep alive, and loses it when it does not.
func TestKeepAliveIsTheMeasureOfASlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := newPipes()
		fetches := make(chan fetched, 1)
		b, err := New(Config{
			Listeners: []Listener{{Transport: TCP, Addr: "pipe"}}, Credentials: credentials(t), Logger: slog.New(slog.DiscardHandler),
			listen: func(string, string) (net.Listener, error) { return listener, nil },
			OnFetch: func(device string, payload []byte, from *Session, _ string) bool {
				fetches <- fetched{device, string(payload), from}
				return true
			},
		})
		check(t, err)
		check(t, b.Start())
		defer b.Stop()
		m := moduleOn(t, listener.dial(), addDevice(t, b, "d"), fetches, connectOptions{keepalive: 30})
		synctest.Wait() // the SUBACK is read, and has left for the broker, too
		image := newImage(1 << 20)
		called := make(chan struct{})
		chunks := chunksOf(image, 4096)
		if n, err := m.Send("d", image, chunks, func() { close(called) }); n == 0 || n == len(chunks) || err != nil {
			t.Fatalf("%d taken: %v", n, err)
		}
		for range 6 * 60 * 2 { // six hours
			m.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
			time.Sleep(29 * time.Second)
		}
		select {
		case <-called:
			t.Fatal("the session takes more, or has ended")
		default:
		}
		silent := time.Now()
		<-called
		if _, err := m.Send("d", image, chunks, nil); !errors.Is(err, ErrSessionEnded) {
			t.Errorf("after the silence: %v", err)
		}
		if took := time.Since(silent); took < time.Second || took > 45*time.Second+closeGrace {
			t.Errorf("the connection ended after %s of silence", took)
		}
		_, err = io.Copy(io.Discard, m.mqttConn)
		check(t, err)
		image.free(t)
	})
}
