package broker

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/schemas"
)

func TestCertificateIsTheLogin(t *testing.T) {
	m := newMutual(t, nil)
	_, err := m.cfg.Credentials.AddBridge("rack", []string{"a", "b"})
	check(t, err)
	addDevice(t, m.Broker, "pump")
	m.registered = []string{"bare"}
	for name, c := range map[string]struct {
		cert tls.Certificate
		user string
		acts string // for this device, and not for "other"
	}{
		"device":                          {m.ca.issue(nil, uris("davit:device:pump")), "pump", "pump"},
		"device without a name":           {m.ca.issue(nil, uris("davit:device:pump")), "", "pump"},
		"bridge":                          {m.ca.issue(nil, uris("davit:bridge:rack")), "rack", "b"},
		"common name":                     {m.ca.issue(nil, named("pump")), "pump", "pump"},
		"common name of a bridge":         {m.ca.issue(nil, named("rack")), "", "a"},
		"device without an entry":         {m.ca.issue(nil, uris("davit:device:bare")), "", "bare"},
		"other URIs":                      {m.ca.issue(nil, uris("spiffe://x/y", "davit:device:pump")), "", "pump"},
		"a common name that is another's": {m.ca.issue(nil, named("rack"), uris("davit:device:pump")), "", "pump"},
	} {
		t.Run(name, func(t *testing.T) {
			dev := m.in(login{user: c.user}, c.cert)
			if code := dev.publish(topic(c.acts, schemas.KindHello), 1, false, "{}"); code >= 0x80 {
				t.Errorf("publishing for %s: %#x", c.acts, code)
			}
			if code := dev.publish(topic("other", schemas.KindHello), 1, false, "{}"); code < 0x80 {
				t.Errorf("publishing for another device: %#x", code)
			}
			check(t, dev.Close())
		})
	}
	// The same over WebSocket.
	d := websocket.Dialer{TLSClientConfig: m.client(m.ca.issue(nil, uris("davit:device:pump"))), HandshakeTimeout: patience, Subprotocols: []string{"mqtt"}}
	ws, resp, err := d.Dial("wss://"+m.Addrs()[1].String()+"/mqtt", nil)
	check(t, err)
	_ = resp.Body.Close()
	t.Cleanup(func() { _ = ws.Close() })
	c, ack := tryOn(t, &wsStream{&wsConn{Conn: ws.NetConn(), ws: ws}, 1 << 20}, connectOptions{})
	if ack.ReasonCode != 0 {
		t.Fatalf("over WebSocket: %#x", ack.ReasonCode)
	}
	c.quiet()
	// Over WebSocket without one, the handshake fails and is counted.
	d.TLSClientConfig = m.client()
	if ws, resp, err := d.Dial("wss://"+m.Addrs()[1].String()+"/mqtt", nil); err == nil {
		_, _ = resp.Body.Close(), ws.Close()
		t.Error("a WebSocket without a certificate is let in")
	}
	eventually(t, "it is counted", func() bool { return testutil.ToFloat64(m.metrics.certRefusals.WithLabelValues(untrustedNone)) == 1 })
}

func TestCertificatesThatAreRefused(t *testing.T) {
	m := newMutual(t, nil)
	addDevice(t, m.Broker, "pump")
	_, err := m.cfg.Credentials.AddBridge("rack", []string{"pump"})
	check(t, err)
	pump := uris("davit:device:pump")
	stranger := newAuthority(t, "stranger", nil)
	namesake := newAuthority(t, "fleet", nil) // the same name with another key
	m.refusedTLS(untrustedNone)
	for reason, certs := range map[string][]tls.Certificate{
		untrustedCA: {stranger.issue(nil, pump), namesake.issue(nil, pump)},
		untrustedExpired: {m.ca.issue(nil, pump, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
			m.ca.issue(nil, pump, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })},
		untrustedUsage: {m.ca.issue(nil, pump, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })},
	} {
		for _, cert := range certs {
			m.refusedTLS(reason, cert)
		}
	}
	leaf := m.ca.issue(nil, pump, func(c *x509.Certificate) { c.IsCA = false })
	below := &authority{t: t, cert: leaf.Leaf, key: leaf.PrivateKey.(*ecdsa.PrivateKey)}
	forged := below.issue(nil, uris("davit:bridge:rack"))
	forged.Certificate = append(forged.Certificate, leaf.Certificate[0])
	m.refusedTLS(untrustedCA, forged)
	for _, c := range []struct {
		verdict string
		user    string
		cert    tls.Certificate
	}{
		{string(verdictIdentity), "rack", m.ca.issue(nil, pump)},                                       // another's user name
		{string(verdictIdentity), serviceName, m.ca.issue(nil, pump)},                                  // the service's
		{string(verdictIdentity), "PUMP", m.ca.issue(nil, pump)},                                       // names are not folded
		{string(verdictIdentity), "", m.ca.issue(nil, uris("davit:bridge:pump"))},                      // a bridge of a device's name
		{string(verdictIdentity), "", m.ca.issue(nil, uris("davit:device:rack"))},                      // and the other way round
		{string(verdictIdentity), "", m.ca.issue(nil, uris("davit:device:pump", "davit:device:x"))},    // two
		{string(verdictIdentity), "", m.ca.issue(nil, uris("davit:device:pump", "davit:device:pump"))}, // even of one name
		{string(verdictIdentity), "", m.ca.issue(nil, named("pump"), uris("davit:device:p%75mp"))},     // does not fall back
		{string(verdictIdentity), "", m.ca.issue(nil, named("pump"), uris("davit:service:pump"))},      // nor here
		{string(verdictIdentity), "", m.ca.issue(nil, uris("https://pump"))},                           // no name at all
		{string(verdictIdentity), "", m.ca.issue(nil, named(serviceName))},                             // no id
		{string(verdictIdentity), "", m.ca.issue(nil, named("p\u0443mp"))},                             // a letter of another alphabet
		{string(verdictUnknown), "", m.ca.issue(nil, uris("davit:device:ghost"))},                      // nobody
		{string(verdictUnknown), "", m.ca.issue(nil, uris("davit:bridge:ghost"))},
	} {
		m.refusedCONNECT(c.verdict, login{user: c.user}, c.cert)
	}
	twice := m.ca.issue(nil, func(c *x509.Certificate) {
		c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "rack"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "pump"}}
	})
	m.refusedCONNECT(string(verdictIdentity), login{}, twice)
	m.in(login{}, m.ca.issue(nil, pump)).quiet()
}

// A revoked certificate ends its session, within the time of a look at the file, and no
// other's, and is not let in again.
func TestRevokedWhileConnected(t *testing.T) {
	m := newMutual(t, nil)
	addDevice(t, m.Broker, "pump")
	addDevice(t, m.Broker, "fan")
	bad, good := m.ca.issue(nil, uris("davit:device:pump")), m.ca.issue(nil, uris("davit:device:fan"))
	pump, fan := m.in(login{}, bad), m.in(login{}, good)
	replace(t, m.crlFile, m.ca.crl(nil, bad))
	if code := pump.ended(); code != packets.ErrNotAuthorized.Code {
		t.Errorf("DISCONNECT %#x", code)
	}
	m.refusedTLS(untrustedRevoked, bad)
	fan.quiet()
	if n := testutil.ToFloat64(m.metrics.certEnds.WithLabelValues(untrustedRevoked)); n != 1 {
		t.Errorf("%v sessions are counted", n)
	}
	// The device may come with another one.
	m.in(login{}, m.ca.issue(nil, uris("davit:device:pump"))).quiet()
	// The authority itself may go.
	other := newAuthority(t, "other", nil)
	replace(t, m.caFile, other.pem())
	fan.ended()
	if n := testutil.ToFloat64(m.metrics.certEnds.WithLabelValues(untrustedCA)); n < 1 {
		t.Errorf("%v sessions are counted", n)
	}
	m.refusedTLS(untrustedCA, good)
}

// A revocation list that cannot be used lets no certificate in, ends no session, and
// is mended by a good one, all without a restart.
func TestRevocationListThatCannotBeUsed(t *testing.T) {
	m := newMutual(t, nil)
	addDevice(t, m.Broker, "pump")
	cert := m.ca.issue(nil, uris("davit:device:pump"))
	staying := m.in(login{}, cert)
	namesake, stranger := newAuthority(t, "fleet", nil), newAuthority(t, "stranger", nil)
	good := m.ca.crl(nil)
	ext := func(id asn1.ObjectIdentifier, critical bool) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: id, Critical: critical, Value: []byte{0x30, 0}}}
		}
	}
	block, _ := pem.Decode(good)
	for _, c := range []struct {
		name, reason string
		content      []byte // nil: no file
	}{
		{"missing", untrustedNoCRL, nil},
		{"empty", untrustedBadCRL, []byte{}},
		{"no list", untrustedBadCRL, []byte("hello")},
		{"cut off", untrustedBadCRL, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: block.Bytes[:40]})},
		{"a certificate", untrustedBadCRL, m.ca.pem()},
		{"expired", untrustedOldCRL, m.ca.crl(func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(-time.Minute) })},
		{"of the future", untrustedOldCRL, m.ca.crl(func(l *x509.RevocationList) { l.ThisUpdate = time.Now().Add(30 * time.Minute) })},
		{"signed by a namesake", untrustedForgedCRL, namesake.crl(nil)},
		{"another authority's", untrustedNoCRL, stranger.crl(nil)},
		{"a delta", untrustedBadCRL, m.ca.crl(ext(deltaIndicator, true))},
		{"a part", untrustedBadCRL, m.ca.crl(ext(distributionPoint, true))},
		{"with more to say", untrustedBadCRL, m.ca.crl(ext(asn1.ObjectIdentifier{1, 2, 3}, true))},
	} {
		if c.content == nil {
			check(t, os.Remove(m.crlFile))
		} else {
			replace(t, m.crlFile, c.content)
		}
		m.refusedTLS(c.reason, cert)
		staying.quiet()
		replace(t, m.crlFile, good)
		conn := m.in(login{}, cert) // by the same client id, another connection
		staying = conn
	}
	replace(t, m.crlFile, block.Bytes) // DER
	m.in(login{}, cert).quiet()
	replace(t, m.caFile, []byte("nothing"))
	m.refusedTLS(untrustedCA, cert)
	replace(t, m.caFile, m.ca.pem())
	m.in(login{}, cert).quiet()
	for _, want := range []string{"reason=" + untrustedBadCRL, "reason=" + untrustedOldCRL, "get a new one", "was not signed by it"} {
		if !strings.Contains(m.log.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// An authority below another one: both need a list, either may revoke, and an
// intermediate that is itself what is trusted needs no root.
func TestIntermediateAuthority(t *testing.T) {
	m := newMutual(t, nil)
	addDevice(t, m.Broker, "pump")
	plant := newAuthority(t, "plant 1", m.ca)
	cert := plant.issue([]*authority{plant}, uris("davit:device:pump"))
	m.refusedTLS(untrustedNoCRL, cert) // the plant's list is not there
	replace(t, m.crlFile, slices.Concat(m.ca.crl(nil), plant.crl(nil)))
	staying := m.in(login{}, cert)
	byPlant := plant.issue([]*authority{plant}, uris("davit:device:pump"))
	replace(t, m.crlFile, slices.Concat(m.ca.crl(nil), plant.crl(nil, byPlant)))
	m.refusedTLS(untrustedRevoked, byPlant)
	staying.quiet()
	replace(t, m.crlFile, slices.Concat(plant.crl(nil), m.ca.crl(nil, tls.Certificate{Leaf: plant.cert})))
	staying.ended()
	m.refusedTLS(untrustedRevoked, cert)
	replace(t, m.caFile, plant.pem())
	replace(t, m.crlFile, plant.crl(nil))
	m.in(login{}, plant.issue(nil, uris("davit:device:pump"))).quiet()
}

// Where certificates are optional, one who has none may have a password, unless the
// listener takes none.
func TestCertificateOrPassword(t *testing.T) {
	m := newMutual(t, func(_ *Config, o *TrustOptions) { o.Required = false })
	who := addDevice(t, m.Broker, "pump")
	m.refusedCONNECT(string(verdictOff), who)
	m.in(service()).quiet()
	m.in(login{}, m.ca.issue(nil, uris("davit:device:pump"))).quiet()
	if !strings.Contains(m.log.String(), "passwords are not accepted on this listener") {
		t.Errorf("the log does not say so:\n%s", m.log)
	}
}

func TestTrustThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ca.pem")
	if _, err := NewClientTrust(TrustOptions{CAFile: file}); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	ca := newAuthority(t, "fleet", nil)
	leaf := ca.issue(nil, named("x"))
	for want, content := range map[string][]byte{
		"holds no certificate":   []byte("nothing"),
		"not an authority's":     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}),
		`a PEM block "X509 CRL"`: ca.crl(nil),
		"x509:":                  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}),
	} {
		replace(t, file, content)
		if _, err := NewClientTrust(TrustOptions{CAFile: file}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := New(Config{Listeners: []Listener{{Transport: TCP, Trust: &ClientTrust{}}}, Logger: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("certificates are asked for without TLS")
	}
}

func FuzzIdentityOf(f *testing.F) {
	f.Add("davit:device:pump", "pump")
	f.Add("", "pump")
	f.Add("davit:device:p%75mp", "rack")
	f.Add("davit:bridge:a#b", "")
	f.Fuzz(func(t *testing.T, uri, cn string) {
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: cn, Names: []pkix.AttributeTypeAndValue{{Type: commonName, Value: cn}}}}
		u, err := url.Parse(uri)
		if err == nil {
			cert.URIs = []*url.URL{u}
		}
		id, err := identityOf(cert)
		if err != nil {
			return
		}
		if schemas.ValidateID(id.ID) != nil {
			t.Errorf("%q, %q: %+v", uri, cn, id)
		}
		if u != nil && u.Scheme == schemas.IdentityScheme {
			if id.Kind == "" || id.String() != u.String() {
				t.Errorf("%q stands for %+v", uri, id)
			}
		} else if id.Kind != "" || id.ID != cn {
			t.Errorf("%q, %q: %+v", uri, cn, id)
		}
	})
}

// What becomes of a session whose certificate was good when it began.
func TestCertificatesOfSessions(t *testing.T) {
	dir := t.TempDir()
	caFile, crlFile := filepath.Join(dir, "ca"), filepath.Join(dir, "crl")
	ca, other := newAuthority(t, "fleet", nil), newAuthority(t, "other", nil)
	replace(t, caFile, ca.pem())
	replace(t, crlFile, ca.crl(nil))
	trust, err := NewClientTrust(TrustOptions{CAFile: caFile, CRLFiles: []string{crlFile}})
	check(t, err)
	cert := ca.issue(nil, named("pump"))
	chains := [][]*x509.Certificate{{cert.Leaf, ca.cert}}
	for _, c := range []struct {
		name, file string
		content    []byte
		later      time.Duration
		session    string // why it ends, "" if it goes on
		login      string
	}{
		{"nothing", crlFile, ca.crl(nil), 0, "", ""},
		{"the certificate ends", crlFile, ca.crl(func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(9 * time.Hour) }), 2 * time.Hour, untrustedExpired, ""}, // a login fails before
		{"revoked", crlFile, ca.crl(nil, cert), 0, untrustedRevoked, untrustedRevoked},
		{"revoked by a list that has ended", crlFile, ca.crl(func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(-time.Minute) }, cert), 0, untrustedRevoked, untrustedRevoked},
		{"revoked by a forged list", crlFile, newAuthority(t, "fleet", nil).crl(nil, cert), 0, "", untrustedForgedCRL},
		{"the list ends", crlFile, ca.crl(func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(time.Minute) }), 2 * time.Minute, "", untrustedOldCRL},
		{"the list is broken", crlFile, []byte("x"), 0, "", untrustedBadCRL},
		{"the list is back", crlFile, ca.crl(nil), 0, "", ""},
		{"another authority", caFile, other.pem(), 0, untrustedCA, ""}, // a login fails before
		{"both", caFile, append(other.pem(), ca.pem()...), 0, "", ""},
		{"no authorities", caFile, []byte("x"), 0, "", untrustedCA},
	} {
		replace(t, c.file, c.content)
		s, fresh := trust.refresh()
		if !fresh {
			t.Errorf("%s: the change is not noticed", c.name)
		}
		if again, fresh := trust.refresh(); fresh || again != s {
			t.Errorf("%s: a change is noticed twice", c.name)
		}
		now := time.Now().Add(c.later)
		reason := func(u *untrusted) string {
			if u == nil {
				return ""
			}
			return u.reason
		}
		if got := reason(s.stillGood(chains, now)); got != c.session {
			t.Errorf("%s: the session ends as %q, want %q", c.name, got, c.session)
		}
		if got := reason(s.admit(chains, now)); got != c.login {
			t.Errorf("%s: a login is refused as %q, want %q", c.name, got, c.login)
		}
	}
}
