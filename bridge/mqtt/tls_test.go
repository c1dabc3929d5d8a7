package mqtt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pair is a self-signed certificate and its key in PEM.
func pair(t *testing.T, name string, change func(*x509.Certificate)) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"broker.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// shake makes a handshake with a server that has this certificate, and returns whom the
// server has seen and what the client says.
func shake(t *testing.T, conf *tls.Config, cert, key []byte) (seen string, said error) {
	t.Helper()
	own, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := ln.Accept()
		if err != nil {
			return // the client could not connect, and says so
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		server := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert, SessionTicketsDisabled: true})
		_ = server.Handshake() // what the client says is what counts
		if certs := server.ConnectionState().PeerCertificates; len(certs) > 0 {
			seen = certs[0].Subject.CommonName
		}
	}()
	c, said := (&tls.Dialer{Config: conf, NetDialer: &net.Dialer{Timeout: 10 * time.Second}}).Dial("tcp", ln.Addr().String())
	if said == nil {
		defer c.Close()
	} else {
		_ = ln.Close()
	}
	<-done
	return seen, said
}

// The files count as they are at each connection: another authority, or a renewed
// certificate, needs no restart; and what is no broker's certificate never passes.
func TestTLSFilesAreReadForEachConnection(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t, "one", nil)
	other, otherKey := pair(t, "two", nil)
	mine, myKey := pair(t, "first", nil)
	next, nextKey := pair(t, "second", nil)
	f := TLSFiles{CA: write(t, filepath.Join(dir, "ca"), cert), Cert: write(t, filepath.Join(dir, "cert"), mine), Key: write(t, filepath.Join(dir, "key"), myKey)}
	conf, err := f.Load("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := shake(t, conf, cert, key); err != nil || seen != "first" {
		t.Errorf("%v, seen %q", err, seen)
	}
	if _, err := shake(t, conf, other, otherKey); err == nil {
		t.Error("a broker of another authority is believed")
	}
	write(t, f.CA, other)
	write(t, f.Cert, next)
	write(t, f.Key, nextKey)
	if seen, err := shake(t, conf, other, otherKey); err != nil || seen != "second" {
		t.Errorf("after a change: %v, seen %q", err, seen)
	}
	if _, err := shake(t, conf, cert, key); err == nil {
		t.Error("the old authority is believed after it was replaced")
	}
	for what, change := range map[string]func(*x509.Certificate){
		"another host": func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} },
		"expired":      func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		"a client's":   func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
	} {
		bad, badKey := pair(t, "bad", change)
		write(t, f.CA, bad)
		if _, err := shake(t, conf, bad, badKey); err == nil {
			t.Errorf("a certificate is believed that is %s", what)
		}
	}
	byName, err := f.Load("broker.test")
	if err != nil {
		t.Fatal(err)
	}
	write(t, f.CA, cert)
	if _, err := shake(t, byName, cert, key); err != nil {
		t.Errorf("by its name: %v", err)
	}
	write(t, f.Key, myKey) // of another certificate
	if _, err := shake(t, conf, cert, key); err == nil || !strings.Contains(err.Error(), f.Cert) {
		t.Errorf("a key that does not fit: %v", err)
	}
}

func TestTLSFilesSayWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t, "x", nil)
	c, k, bad := write(t, filepath.Join(dir, "c"), cert), write(t, filepath.Join(dir, "k"), key), write(t, filepath.Join(dir, "bad"), []byte("nothing"))
	for want, f := range map[string]TLSFiles{
		"belong together":                 {Cert: c},
		"belong together, too":            {Key: k},
		"no certificate in PEM form":      {CA: bad},
		"read the broker's certificates":  {CA: bad + ".none"},
		"load the client certificate":     {Cert: c, Key: bad},
		"load the client certificate too": {Cert: bad + ".none", Key: k},
	} {
		want = strings.TrimSuffix(strings.TrimSuffix(want, " too"), ", too")
		if _, err := f.Load("h"); err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(want, ",")) {
			t.Errorf("%+v: %v, want %s", f, err, want)
		}
	}
	if conf, err := (TLSFiles{}).Load("h"); err != nil || conf.InsecureSkipVerify {
		t.Errorf("none: %+v, %v", conf, err)
	}
}
