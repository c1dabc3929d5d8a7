package broker

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"davit/internal/logevent"
	"davit/schemas"
)

const (
	// trustCheck is how often it is looked whether the files of a ClientTrust have
	// changed, for sessions; new ones look by themselves.
	trustCheck = time.Second
	// endCheck is how often the ends of the certificates of sessions are looked at.
	endCheck = 30 * time.Second
)

// certificate is the client certificate of a connection.
type certificate struct {
	chains [][]*x509.Certificate // as verified, the client's own first
	trust  *ClientTrust
	id     schemas.Identity
	err    error // why it stands for nobody
}

// certificateOf reads the certificate of a connection whose handshake is over; nil
// if it has none.
func certificateOf(t *tls.Conn, trust *ClientTrust) *certificate {
	if trust == nil {
		return nil
	}
	chains := t.ConnectionState().VerifiedChains
	if len(chains) == 0 {
		return nil
	}
	c := &certificate{chains: chains, trust: trust}
	c.id, c.err = identityOf(chains[0][0])
	return c
}

func (c *certificate) serial() string { return c.chains[0][0].SerialNumber.Text(16) }

var commonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// identityOf finds whom a certificate stands for: its one URI of our scheme or, if it
// has none, its common name, which does not say of what kind it is. Nothing is
// guessed where there are two, and a URI that is malformed does not make way for
// the common name.
func identityOf(cert *x509.Certificate) (schemas.Identity, error) {
	var uri string
	for _, u := range cert.URIs {
		if u.Scheme != schemas.IdentityScheme {
			continue
		}
		if uri != "" {
			return schemas.Identity{}, fmt.Errorf("the certificate stands for two: %.100q and %.100q", uri, u.String())
		}
		uri = u.String()
	}
	if uri != "" {
		return schemas.ParseIdentity(uri)
	}
	var names []any
	for _, a := range cert.Subject.Names {
		if a.Type.Equal(commonName) {
			names = append(names, a.Value)
		}
	}
	if len(names) != 1 {
		return schemas.Identity{}, fmt.Errorf("the certificate has no URI davit:device:ID or davit:bridge:ID, and %d common names; one would do", len(names))
	}
	name, ok := names[0].(string)
	if !ok {
		return schemas.Identity{}, errors.New("the certificate's common name is not text")
	}
	if err := schemas.ValidateID(name); err != nil {
		return schemas.Identity{}, fmt.Errorf("the certificate has no URI davit:device:ID or davit:bridge:ID, and its common name is no id: %w", err)
	}
	return schemas.Identity{ID: name}, nil
}

// byCertificate finds the principal of a connection with a certificate. The user name
// may be left out, and otherwise has to be that of the certificate.
func (b *Broker) byCertificate(cert *certificate, user string) (*principal, verdict, error) {
	switch {
	case cert.err != nil:
		return nil, verdictIdentity, cert.err
	case user != "" && user != cert.id.ID:
		return nil, verdictIdentity, fmt.Errorf("the certificate is that of %q; connect with that user name or none", cert.id.ID)
	case b.cfg.Credentials == nil:
		return nil, verdictUnknown, nil
	}
	return b.cfg.Credentials.certified(cert.id, b.cfg.KnowsDevice)
}

// watchTrust ends sessions whose certificate is not good any more, until the broker
// stops.
func (b *Broker) watchTrust(t *ClientTrust) {
	defer b.tasks.Done()
	tick := time.NewTicker(b.cfg.trustCheck)
	defer tick.Stop()
	s := t.state.Load()
	b.tellTrust(t, s)
	looked := time.Now()
	for {
		select {
		case <-b.stopping:
			return
		case <-tick.C:
		}
		now := time.Now()
		fresh, _ := t.refresh()
		changed := fresh != s // by us, or by a handshake
		if s = fresh; changed {
			b.tellTrust(t, s)
		}
		if changed || now.Sub(looked) >= endCheck {
			looked = now
			b.holdAgainst(t, s, now)
			b.tellCRLs(s, now)
		}
	}
}

// holdAgainst looks at the certificates of all sessions.
func (b *Broker) holdAgainst(t *ClientTrust, s *trustState, now time.Time) {
	for _, c := range b.sessions.all() {
		if c.certificate == nil || c.certificate.trust != t {
			continue
		}
		if err := s.stillGood(c.certificate.chains, now); err != nil {
			b.distrust(c, err)
		}
	}
}

// distrust ends a session because of its certificate.
func (b *Broker) distrust(c *conn, err *untrusted) {
	b.metrics.certificateEnded(err.reason)
	b.log.Warn("MQTT session ended, because its certificate is not good any more", "event", logevent.CertificateEnded,
		"principal", c.principal.name, "serial", c.certificate.serial(), "remote", c.RemoteAddr().String(), "reason", err.reason, "error", err)
	b.disconnect(c, notAuthorized)
}

// tellTrust logs what the files say.
func (b *Broker) tellTrust(t *ClientTrust, s *trustState) {
	b.metrics.crlNextUpdate(s.crls.nextUpdate())
	if s.unusable != nil {
		b.log.Error("client certificates are refused until this is mended; sessions go on", "event", logevent.CertificatesUnusable, "reason", s.unusable.reason, "error", s.unusable)
		return
	}
	b.log.Info("client certificates are believed by these files", "event", logevent.CertificatesInForce, "authorities", len(s.anchors), "ca_file", t.o.CAFile, "required", t.o.Required,
		"crl_files", t.o.CRLFiles, "revoked", s.crls.entries(), "crl_next_update", s.crls.nextUpdate())
}

// tellCRLs warns of lists that end soon, or have.
func (b *Broker) tellCRLs(s *trustState, now time.Time) {
	next := s.crls.nextUpdate()
	switch {
	case next.IsZero() || next.Sub(now) > 24*time.Hour || !b.logged.Allow("crl"):
	case now.Before(next):
		b.log.Warn("a revocation list ends within a day; after that, certificates of its authority are refused", "event", logevent.CRLEndsSoon, "next_update", next)
	default:
		b.log.Error("a revocation list has ended: certificates of its authority are refused until there is a new one", "event", logevent.CRLEnded, "next_update", next)
	}
}

// checkJoined looks once more at the certificate of a session that has begun, in case
// the files have changed since its handshake.
func (b *Broker) checkJoined(c *conn) {
	if c.certificate == nil {
		return
	}
	if err := c.certificate.trust.state.Load().stillGood(c.certificate.chains, time.Now()); err != nil {
		b.distrust(c, err)
	}
}
