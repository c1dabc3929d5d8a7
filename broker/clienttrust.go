package broker

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"davit/internal/filestamp"
)

// TrustOptions say which client certificates a listener believes.
type TrustOptions struct {
	// CAFile is a PEM file with the certificates of the authorities whose client
	// certificates are believed.
	CAFile string
	// CRLFiles are files with their revocation lists, in PEM or DER. If there is one,
	// every authority between a client and CAFile has to have a list that is in
	// force: without it no certificate of that authority is believed.
	CRLFiles []string
	// Required refuses clients without a certificate.
	Required bool
}

// ClientTrust is what listeners go by that ask for client certificates. It notices by
// itself when one of its files changes. A file that cannot be used shuts certificates
// out, and ends no session: of those, it ends the ones whose certificate is revoked, has
// come to its end, or whose authority is not trusted any more.
type ClientTrust struct {
	o TrustOptions

	mu    sync.Mutex // held while the files are looked at
	state atomic.Pointer[trustState]
}

// trustState is what the files said at one time. It does not change.
type trustState struct {
	stamps  []filestamp.Stamp
	roots   *x509.CertPool
	anchors map[[sha256.Size]byte]struct{} // the certificates of roots
	crls    crls
	// unusable says why no certificate is believed; nil if the files can be used.
	unusable *untrusted
}

// NewClientTrust reads the files. That the authorities cannot be read is an error; a
// revocation list that cannot be used may come to be, and shuts certificates out until
// then.
func NewClientTrust(o TrustOptions) (*ClientTrust, error) {
	t := &ClientTrust{o: o}
	s := t.read()
	if s.roots == nil {
		return nil, s.unusable
	}
	t.state.Store(s)
	return t, nil
}

// files are all that the trust is read from.
func (t *ClientTrust) files() []string { return append([]string{t.o.CAFile}, t.o.CRLFiles...) }

// refresh reads the files again if one of them looks different, and says whether it
// did so.
func (t *ClientTrust) refresh() (*trustState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.state.Load()
	for i, file := range t.files() {
		if !s.stamps[i].Same(filestamp.Of(file)) {
			s = t.read()
			t.state.Store(s)
			return s, true
		}
	}
	return s, false
}

func (t *ClientTrust) read() *trustState {
	s := &trustState{stamps: filestamp.All(t.files())}
	if err := s.readCAs(t.o.CAFile); err != nil {
		s.unusable = &untrusted{untrustedCA, err}
		return s
	}
	s.crls.wanted = len(t.o.CRLFiles) > 0
	for _, file := range t.o.CRLFiles {
		if err := s.crls.read(file); err != nil {
			s.unusable = err
		}
	}
	return s
}

func (s *trustState) readCAs(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the authorities of clients: %w", err)
	}
	roots, anchors := x509.NewCertPool(), make(map[[sha256.Size]byte]struct{})
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("%s holds a PEM block %q; it may hold certificates of authorities only", file, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if !cert.IsCA {
			return fmt.Errorf("%s: the certificate of %q is not an authority's", file, cert.Subject)
		}
		roots.AddCert(cert)
		anchors[sha256.Sum256(cert.Raw)] = struct{}{}
	}
	if len(anchors) == 0 {
		return fmt.Errorf("%s holds no certificate in PEM form", file)
	}
	s.roots, s.anchors = roots, anchors
	return nil
}

// server makes the configuration of a listener that goes by the trust. Sessions are not
// resumed: each handshake looks at the certificate anew. A connection keeps its
// configuration, so there is one for each state of the files and not for each connection.
func (t *ClientTrust) server(base *tls.Config) *tls.Config {
	type made struct {
		of   *trustState
		conf *tls.Config
	}
	var last atomic.Pointer[made]
	conf := base.Clone()
	conf.SessionTicketsDisabled = true
	conf.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		s, _ := t.refresh()
		m := last.Load()
		if m == nil || m.of != s {
			m = &made{s, s.server(base, t.o.Required)}
			last.Store(m)
		}
		return m.conf, nil
	}
	return conf
}

func (s *trustState) server(base *tls.Config, required bool) *tls.Config {
	conf := base.Clone()
	conf.SessionTicketsDisabled = true
	conf.ClientAuth = tls.VerifyClientCertIfGiven
	if required {
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	conf.ClientCAs = s.roots
	if s.roots == nil { // nil would be those of the system
		conf.ClientCAs = x509.NewCertPool()
	}
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil
		}
		if err := s.admit(cs.VerifiedChains, time.Now()); err != nil {
			return err
		}
		return nil
	}
	return conf
}

// admit decides on the certificate of a new connection, of which the library has
// verified these chains.
func (s *trustState) admit(chains [][]*x509.Certificate, now time.Time) *untrusted {
	if s.unusable != nil {
		return s.unusable
	}
	failed := &untrusted{untrustedCA, errors.New("no authority vouches for the certificate")}
	for _, chain := range chains {
		if failed = s.crls.admit(chain, now); failed == nil {
			return nil
		}
	}
	return failed
}

// stillGood decides on the certificate of a session that was admitted earlier.
func (s *trustState) stillGood(chains [][]*x509.Certificate, now time.Time) *untrusted {
	var failed *untrusted
	for _, chain := range chains {
		if failed = s.stillGoodChain(chain, now); failed == nil {
			return nil
		}
	}
	return failed
}

func (s *trustState) stillGoodChain(chain []*x509.Certificate, now time.Time) *untrusted {
	for _, cert := range chain {
		if now.After(cert.NotAfter) {
			return &untrusted{untrustedExpired, fmt.Errorf("the certificate of %q ended at %s", cert.Subject, cert.NotAfter.Format(time.RFC3339))}
		}
	}
	if s.roots != nil {
		if _, ok := s.anchors[sha256.Sum256(chain[len(chain)-1].Raw)]; !ok {
			return &untrusted{untrustedCA, fmt.Errorf("the authority %q is not trusted any more", chain[len(chain)-1].Subject)}
		}
	}
	return s.crls.revoked(chain)
}

// Why a certificate is not believed. The values are metric labels.
const (
	untrustedNone      = "no_certificate"
	untrustedCA        = "unknown_authority"
	untrustedExpired   = "expired"
	untrustedUsage     = "wrong_usage"
	untrustedInvalid   = "invalid"
	untrustedRevoked   = "revoked"
	untrustedNoCRL     = "crl_missing"
	untrustedBadCRL    = "crl_broken"
	untrustedOldCRL    = "crl_expired"
	untrustedForgedCRL = "crl_signature"
)

// untrusted is why a certificate is not believed.
type untrusted struct {
	reason string
	err    error
}

// Error implements error.
func (u *untrusted) Error() string { return u.err.Error() }

// Unwrap implements the interface of errors.Is.
func (u *untrusted) Unwrap() error { return u.err }

// whyUntrusted finds in the error of a handshake what was wrong with the client's
// certificate; "" if it was something else.
func whyUntrusted(err error) string {
	var ours *untrusted
	var theirs *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &ours):
		return ours.reason
	case errors.As(err, &unknown):
		return untrustedCA
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return untrustedExpired
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return untrustedUsage
	case errors.As(err, &theirs), errors.As(err, &invalid):
		return untrustedInvalid
	case err != nil && err.Error() == "tls: client didn't provide a certificate": // the library has no name for it
		return untrustedNone
	}
	return ""
}
