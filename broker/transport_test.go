package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/schemas"
)

// serverCertificate writes a self-signed certificate for 127.0.0.1 and its key.
func serverCertificate(t testing.TB) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "davit test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(cert)
	return certFile, keyFile, pool
}

func loadTLS(certFile, keyFile string) (*tls.Config, error) {
	c, err := LoadCertificate(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return c.TLS(), nil
}

func TestCertificateSaysWhatIsMissing(t *testing.T) {
	cert, _, _ := serverCertificate(t)
	if _, err := loadTLS(cert, "/does/not/exist"); err == nil || !strings.Contains(err.Error(), "/does/not/exist") || !strings.Contains(err.Error(), "must not be encrypted") {
		t.Errorf("LoadCertificate: %v", err)
	}
}

// wsStream is the test client's end of a WebSocket. Each MQTT packet goes out
// in messages of at most cut bytes.
type wsStream struct {
	*wsConn
	cut int
}

func (w *wsStream) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		k := min(w.cut, len(p))
		if _, err = w.wsConn.Write(p[:k]); err == nil {
			n += k
		}
		p = p[k:]
	}
	return n, err
}

func dialWS(t *testing.T, addr string, conf *tls.Config, cut int) net.Conn {
	t.Helper()
	d := websocket.Dialer{TLSClientConfig: conf, Subprotocols: []string{"mqtt"}, HandshakeTimeout: patience}
	scheme := "ws"
	if conf != nil {
		scheme = "wss"
	}
	ws, resp, err := d.Dial(scheme+"://"+addr+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if ws.Subprotocol() != "mqtt" {
		t.Errorf("subprotocol %q", ws.Subprotocol())
	}
	t.Cleanup(func() { _ = ws.Close() })
	return &wsStream{&wsConn{Conn: ws.NetConn(), ws: ws}, cut}
}

func clientTLS(pool *x509.CertPool) *tls.Config { return &tls.Config{RootCAs: pool} }

func dialTLS(t *testing.T, addr string, pool *x509.CertPool) net.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", addr, clientTLS(pool))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// exchange sends a big message both ways, ends the session from the broker's
// side, and looks for the reason.
func exchange(t *testing.T, b *Broker, dial func() net.Conn, id string) {
	t.Helper()
	who := addDevice(t, b, id)
	refused, ack := tryOn(t, dial(), connectOptions{login: login{id, "wrong"}})
	if ack.ReasonCode != packets.ErrBadUsernameOrPassword.Code {
		t.Errorf("CONNACK %#x", ack.ReasonCode)
	}
	refused.ended()
	dev, ack := tryOn(t, dial(), connectOptions{login: who})
	if ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	dev.subscribe(1, topic(id, schemas.KindChunk), topic(id, schemas.KindOffer))
	dev.quiet() // what is published now is not seen as retained as well
	svc, ack := tryOn(t, dial(), connectOptions{login: service(), clientID: id})
	if ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x", ack.ReasonCode)
	}
	svc.subscribe(1, topic(id, schemas.KindHello))
	chunk := strings.Repeat("c", 64<<10)
	for i := range 20 {
		svc.publish(topic(id, schemas.KindChunk), 0, false, chunk)
		svc.publish(topic(id, schemas.KindOffer), 1, true, fmt.Sprint(i))
	}
	for i := range 20 {
		if pk := dev.message(); string(pk.Payload) != chunk {
			t.Fatalf("chunk of %d bytes", len(pk.Payload))
		}
		if n := number(t, dev.message().Payload); n != i {
			t.Fatalf("offer %d came as number %d", n, i)
		}
	}
	hello := strings.Repeat("h", schemas.KindHello.MaxPayload())
	dev.publish(topic(id, schemas.KindHello), 1, false, hello)
	if pk := svc.message(); string(pk.Payload) != hello {
		t.Fatalf("hello of %d bytes", len(pk.Payload))
	}
	if err := b.cfg.Credentials.Remove(id); err != nil {
		t.Fatal(err)
	}
	if reason := dev.ended(); reason != packets.ErrAdministrativeAction.Code {
		t.Errorf("DISCONNECT reason %#x", reason)
	}
	_ = svc.Close()
}

func TestTransports(t *testing.T) {
	certFile, keyFile, pool := serverCertificate(t)
	conf, err := loadTLS(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	b := start(t, func(c *Config) {
		c.Metrics = NewMetrics(reg)
		c.Listeners = []Listener{
			{Transport: TCP, Addr: "127.0.0.1:0"}, {Transport: TCP, Addr: "127.0.0.1:0", TLS: conf}, {Transport: WebSocket, Addr: "127.0.0.1:0"}, {Transport: WebSocket, Addr: "127.0.0.1:0", TLS: conf},
		}
	})
	client := clientTLS(pool)
	addr := func(i int) string { return b.Addrs()[i].String() }
	for name, dial := range map[string]func() net.Conn{
		"tcp":      func() net.Conn { return dialTCP(t, addr(0)) },
		"tls":      func() net.Conn { return dialTLS(t, addr(1), pool) },
		"ws":       func() net.Conn { return dialWS(t, addr(2), nil, 1<<20) },
		"ws-split": func() net.Conn { return dialWS(t, addr(2), nil, 501) },
		"wss":      func() net.Conn { return dialWS(t, addr(3), client, 1<<20) },
	} {
		t.Run(name, func(t *testing.T) { exchange(t, b, dial, "d-"+name) })
	}
	eventually(t, "all are gone", func() bool { return len(b.sessions.all()) == 0 })
	for transport, want := range map[Transport]float64{TCP: 4, WebSocket: 6} {
		if n := testutil.ToFloat64(b.metrics.connects.WithLabelValues(string(transport))); n != want {
			t.Errorf("%v %s connects counted, want %v", n, transport, want)
		}
		if n := testutil.ToFloat64(b.metrics.connections.WithLabelValues(string(transport))); n != 0 {
			t.Errorf("%v %s connections left", n, transport)
		}
	}
	eventually(t, "all sockets are closed", func() bool { return b.sockets.Load() == 0 })
}

// What is no proper client of a transport is refused in time and forgotten.
func TestTransportMisuse(t *testing.T) {
	t.Parallel()
	certFile, keyFile, _ := serverCertificate(t)
	conf, err := loadTLS(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, func(c *Config) {
		c.Limits.ConnectTimeout = 150 * time.Millisecond
		c.Listeners = []Listener{{Transport: TCP, Addr: "127.0.0.1:0", TLS: conf}, {Transport: WebSocket, Addr: "127.0.0.1:0"}, {Transport: WebSocket, Addr: "127.0.0.1:0", TLS: conf}}
	})
	for i := range 3 {
		for _, said := range []string{"", "\x10\x20\x00\x04MQTT", "GET / HTTP/1.1\r\nHost: x\r\n", "\x16\x03\x01\x02\x00"} {
			c := dialTCP(t, b.Addrs()[i].String())
			_, _ = c.Write([]byte(said))
			_ = c.SetReadDeadline(time.Now().Add(patience))
			for buf := make([]byte, 512); ; {
				if _, err := c.Read(buf); err != nil {
					var timeout net.Error
					if ok := asTimeout(err, &timeout); ok {
						t.Errorf("listener %d: a socket that said %.10q is still open", i, said)
					}
					break
				}
			}
		}
	}
	resp, err := http.Get("http://" + b.Addrs()[1].String() + "/mqtt")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP: %s", resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()
	silent := dialWS(t, b.Addrs()[1].String(), nil, 100)
	_ = silent.SetReadDeadline(time.Now().Add(patience))
	var timeout net.Error
	if _, err := silent.Read(make([]byte, 1)); err == nil || asTimeout(err, &timeout) {
		t.Errorf("a WebSocket without CONNECT: %v", err)
	}
	text := dialWS(t, b.Addrs()[1].String(), nil, 100)
	if err := text.(*wsStream).ws.WriteMessage(websocket.TextMessage, encoded(t, connectPacket(connectOptions{login: service()}))); err != nil {
		t.Fatal(err)
	}
	_ = text.SetReadDeadline(time.Now().Add(patience))
	if _, err := text.Read(make([]byte, 1)); err == nil || asTimeout(err, &timeout) {
		t.Errorf("a text message: %v", err)
	}
	eventually(t, "all sockets are closed", func() bool { return b.sockets.Load() == 0 })
}
