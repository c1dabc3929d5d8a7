package app

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"davit/bridge/mqtt"
	"davit/internal/logevent"
	"davit/internal/logtest"
	"davit/internal/sim"
)

// certificate writes a self-signed certificate for 127.0.0.1.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	return certificateUntil(t, time.Now().Add(time.Hour))
}

// certificateUntil writes one that ends then, and began two hours before that.
func certificateUntil(t *testing.T, end time.Time) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "davit test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: end.Add(-2 * time.Hour), NotAfter: end, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestUpdateOverTLS updates a device whose bridge and service speak over TLS only, and whoever
// listens to the way between them learns neither the password nor the image.
func TestUpdateOverTLS(t *testing.T) {
	b := newBench(t)
	cert, key := certificate(t)
	o := testOptions(t, b.serveData())
	o.TLSCert, o.TLSKey = cert, key
	o.MQTTS, o.HTTPS, o.Websocket = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	s, stop := startServer(t, o)
	a := s.Addresses()
	if a.MQTTS == "" || a.HTTPS == "" || a.Websocket == "" || a.MQTTS == a.Websocket {
		t.Fatalf("addresses %+v", a)
	}
	b.http = a.HTTP
	b.client = clientFor(t, b.serveData(), a.HTTP)
	password := b.records()
	b.plug()
	b.trust = cert
	stopBridge := b.bridge("wss://"+a.Websocket, "rack", password)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		d, err := b.client.Device(ctx, "pump")
		if err != nil {
			t.Fatal(err)
		}
		if d.Online {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	stopBridge()
	tap := listenIn(t, a.MQTTS)
	b.bridge("mqtts://"+tap.address, "rack", password)
	image := sim.BuildDemoImage("2.0.0", 4096, 1)
	b.roll(image, "2.0.0")
	checkHTTPS(t, "https://"+a.HTTPS+"/readyz", cert)
	b.awaitUpdated(image, stop)
	tap.learned(len(image), password, "davit/v1", "rack", string(image[:16]), string(image[2000:2016]), string(image[len(image)-16:]))
}

// tap passes on what goes to and from an address, and keeps it.
type tap struct {
	t       *testing.T
	address string
	mu      sync.Mutex
	heard   []byte
}

// listenIn begins to pass on connections, until the test ends.
func listenIn(t *testing.T, to string) *tap {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &tap{t: t, address: ln.Addr().String()}
	var busy sync.WaitGroup
	busy.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
				busy.Go(func() {
					_, _ = io.Copy(way[0], io.TeeReader(way[1], w)) // until one of them closes
					_ = way[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		busy.Wait()
	})
	return w
}

// Write keeps what was heard.
func (w *tap) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = append(w.heard, b...)
	return len(b), nil
}

// learned fails the test if one of the texts was heard, or if fewer bytes than that were.
func (w *tap) learned(least int, texts ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.heard) < least {
		w.t.Errorf("%d bytes were heard; the image alone has %d", len(w.heard), least)
	}
	for _, text := range texts {
		if bytes.Contains(w.heard, []byte(text)) {
			w.t.Errorf("%q goes over the network for everybody to read", text)
		}
	}
}

func checkHTTPS(t *testing.T, url, cert string) {
	t.Helper()
	trust, err := mqtt.TLSFiles{CA: cert}.Load("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: trust}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.TLS == nil || resp.TLS.Version < tls.VersionTLS12 {
		t.Errorf("%s: %s, TLS %+v", url, resp.Status, resp.TLS)
	}
}

// A certificate that is out of its time is told in the log: clients only say that they do not connect.
func TestCertificateOutOfTimeIsLogged(t *testing.T) {
	for name, c := range map[string]struct {
		end   time.Time
		words []string
	}{
		"ended":     {time.Now().Add(-time.Hour), []string{"has come to its end on"}},
		"not begun": {time.Now().Add(3 * time.Hour), []string{"begins to be valid on"}},
		"in time":   {time.Now().Add(time.Hour), nil},
	} {
		t.Run(name, func(t *testing.T) {
			lines := &logtest.Buffer{}
			o := testOptions(t, t.TempDir())
			o.Log = slog.New(slog.NewTextHandler(lines, nil))
			o.TLSCert, o.TLSKey = certificateUntil(t, c.end)
			o.HTTPS = "127.0.0.1:0"
			s, err := NewServer(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			event := "event=" + string(logevent.CertificateOutOfTime)
			if told := lines.Lines(append(c.words, event, o.TLSCert)...); len(told) != min(1, len(c.words)) {
				t.Errorf("told: %q", told)
			}
		})
	}
}
