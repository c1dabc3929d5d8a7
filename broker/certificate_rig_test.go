package broker

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/internal/logtest"
)

// authority is a certificate authority of the tests, below another one or a root.
type authority struct {
	t      testing.TB
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newAuthority(t testing.TB, name string, parent *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	a := &authority{t: t, key: key, serial: 100}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	issuer, signer := template, key
	if parent != nil {
		parent.serial++
		template.SerialNumber, issuer, signer = big.NewInt(parent.serial), parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	check(t, err)
	a.cert, err = x509.ParseCertificate(der)
	check(t, err)
	return a
}

// with is a change of what a certificate says.
type with func(*x509.Certificate)

func uris(all ...string) with {
	return func(c *x509.Certificate) {
		c.URIs = nil
		for _, s := range all {
			u, err := url.Parse(s)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

func named(cn string) with {
	return func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: cn} }
}

// issue makes a client certificate; chain is sent with it.
func (a *authority) issue(chain []*authority, changes ...with) tls.Certificate {
	a.t.Helper()
	a.serial++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	for _, change := range changes {
		change(c)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	check(a.t, err)
	out := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	out.Leaf, err = x509.ParseCertificate(der)
	check(a.t, err)
	for _, c := range chain {
		out.Certificate = append(out.Certificate, c.cert.Raw)
	}
	return out
}

// crl makes a revocation list in PEM, good for an hour unless changed.
func (a *authority) crl(change func(*x509.RevocationList), revoked ...tls.Certificate) []byte {
	a.t.Helper()
	a.serial++
	list := &x509.RevocationList{Number: big.NewInt(a.serial), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	if change != nil {
		change(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, crypto.Signer(a.key))
	check(a.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// replace puts new content in the place of a file, as tools do that write whole files.
func replace(t testing.TB, file string, content []byte) {
	t.Helper()
	check(t, os.WriteFile(file+".new", content, 0o600))
	check(t, os.Rename(file+".new", file))
}

// mutual is a broker that asks for client certificates, over TCP and over WebSocket.
type mutual struct {
	*Broker
	t          testing.TB
	ca         *authority
	server     *x509.CertPool
	caFile     string
	crlFile    string
	log        *logtest.Buffer
	registered []string // devices that the service knows beside the credentials
}

func newMutual(t testing.TB, change func(*Config, *TrustOptions)) *mutual {
	t.Helper()
	dir := t.TempDir()
	m := &mutual{t: t, ca: newAuthority(t, "fleet", nil), caFile: filepath.Join(dir, "ca.pem"), crlFile: filepath.Join(dir, "crl.pem"), log: &logtest.Buffer{}}
	replace(t, m.caFile, m.ca.pem())
	replace(t, m.crlFile, m.ca.crl(nil))
	certFile, keyFile, pool := serverCertificate(t)
	m.server = pool
	conf, err := loadTLS(certFile, keyFile)
	check(t, err)
	o := TrustOptions{CAFile: m.caFile, CRLFiles: []string{m.crlFile}, Required: true}
	m.Broker = start(t, func(c *Config) {
		c.Metrics = NewMetrics(prometheus.NewRegistry())
		c.Logger = slog.New(slog.NewTextHandler(m.log, nil))
		c.KnowsDevice = func(d string) bool { return slices.Contains(m.registered, d) }
		c.trustCheck = 20 * time.Millisecond
		if change != nil {
			change(c, &o)
		}
		trust, err := NewClientTrust(o)
		check(t, err)
		c.Listeners = []Listener{
			{Transport: TCP, Addr: "127.0.0.1:0", TLS: conf, Trust: trust, NoPasswords: true},
			{Transport: WebSocket, Addr: "127.0.0.1:0", TLS: conf, Trust: trust, NoPasswords: true},
		}
	})
	return m
}

func (m *mutual) client(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: m.server, ServerName: "127.0.0.1", Certificates: certs}
}

// dial connects over TLS. A handshake that the server refuses may show at the first
// read only, so its error is left to whoever reads.
func (m *mutual) dial(certs ...tls.Certificate) net.Conn {
	m.t.Helper()
	return tls.Client(dialTCP(m.t, m.addr()), m.client(certs...))
}

// in connects and has to be let in.
func (m *mutual) in(who login, certs ...tls.Certificate) *mqttConn {
	m.t.Helper()
	c, ack := tryOn(m.t, m.dial(certs...), connectOptions{login: who})
	if ack.ReasonCode != 0 {
		m.t.Fatalf("refused: %#x %s\n%s", ack.ReasonCode, ack.Properties.ReasonString, m.log)
	}
	return c
}

// refusedTLS connects and has to be refused during the handshake, for a reason. The client
// sends what it has, whomever the server asks for.
func (m *mutual) refusedTLS(reason string, certs ...tls.Certificate) {
	m.t.Helper()
	n := func() float64 { return testutil.ToFloat64(m.metrics.certRefusals.WithLabelValues(reason)) }
	before := n()
	conf := m.client()
	if len(certs) > 0 {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certs[0], nil }
	}
	conn := tls.Client(dialTCP(m.t, m.addr()), conf)
	_, _ = conn.Write(encoded(m.t, connectPacket(connectOptions{}))) // the handshake may have failed already
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if k, err := conn.Read(make([]byte, 100)); err == nil {
		m.t.Errorf("answered with %d bytes; it should be refused as %s", k, reason)
	}
	eventually(m.t, "refused as "+reason, func() bool { return n() > before })
}

// refusedCONNECT connects and has to be refused with a CONNACK, for a reason.
func (m *mutual) refusedCONNECT(reason string, who login, certs ...tls.Certificate) {
	m.t.Helper()
	before := testutil.ToFloat64(m.metrics.authFailures.WithLabelValues(reason))
	_, ack := tryOn(m.t, m.dial(certs...), connectOptions{login: who})
	if ack.ReasonCode < 0x80 || testutil.ToFloat64(m.metrics.authFailures.WithLabelValues(reason)) != before+1 {
		m.t.Errorf("CONNACK %#x, not refused as %s; the log:\n%s", ack.ReasonCode, reason, m.log)
	}
}
