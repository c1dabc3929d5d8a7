package broker

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// crlSkew is by how much the clock of an authority may be ahead of ours.
const crlSkew = 5 * time.Minute

// crl is a revocation list that was read. Whether an authority has signed it shows
// when the authority is known, with the first certificate of it.
type crl struct {
	file string
	list *x509.RevocationList
	// serials of the list, as bytes of the number.
	serials map[string]struct{}
}

// crls are the revocation lists of a ClientTrust. They do not change.
type crls struct {
	wanted bool // every authority has to have one
	all    []*crl
	signed sync.Map // by SHA-256 of an authority's certificate: []*crl, which it has signed
}

// read adds the lists of a file.
func (c *crls) read(file string) *untrusted {
	data, err := os.ReadFile(file)
	if err != nil {
		return &untrusted{untrustedNoCRL, fmt.Errorf("read the revocation list: %w", err)}
	}
	blocks := [][]byte{data} // DER, unless it is PEM
	if block, rest := pem.Decode(data); block != nil {
		for blocks = nil; block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "X509 CRL" {
				return &untrusted{untrustedBadCRL, fmt.Errorf("%s holds a PEM block %q; it may hold X509 CRL only", file, block.Type)}
			}
			blocks = append(blocks, block.Bytes)
		}
	}
	for _, der := range blocks {
		list, err := parseCRL(der)
		if err != nil {
			return &untrusted{untrustedBadCRL, fmt.Errorf("the revocation list %s cannot be used: %w", file, err)}
		}
		one := &crl{file, list, make(map[string]struct{}, len(list.RevokedCertificateEntries))}
		for _, e := range list.RevokedCertificateEntries {
			one.serials[string(e.SerialNumber.Bytes())] = struct{}{}
		}
		c.all = append(c.all, one)
	}
	return nil
}

// The critical extensions of lists that are not whole (RFC 5280, 5.2.4 and 5.2.5).
var (
	deltaIndicator    = asn1.ObjectIdentifier{2, 5, 29, 27}
	distributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// parseCRL reads one list. What a critical extension says must not be passed over
// (RFC 5280, 5.2): we know none, and the usual ones say that the list is a part.
func parseCRL(der []byte) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(deltaIndicator):
			return nil, errors.New("it only tells what has changed (delta CRL); give the whole list")
		case e.Critical && e.Id.Equal(distributionPoint):
			return nil, errors.New("it is for a part of the certificates (issuing distribution point); give the whole list")
		case e.Critical:
			return nil, fmt.Errorf("it has the critical extension %s, which this program does not know", e.Id)
		}
	}
	if list.NextUpdate.IsZero() {
		return nil, errors.New("it does not say until when it is good (nextUpdate)")
	}
	return list, nil
}

// of returns the lists that an authority has signed.
func (c *crls) of(authority *x509.Certificate) []*crl {
	key := sha256.Sum256(authority.Raw)
	if known, ok := c.signed.Load(key); ok {
		return known.([]*crl)
	}
	var signed []*crl
	for _, one := range c.all {
		if bytes.Equal(one.list.RawIssuer, authority.RawSubject) && one.list.CheckSignatureFrom(authority) == nil {
			signed = append(signed, one)
		}
	}
	c.signed.Store(key, signed) // as many as there are authorities that the library has verified
	return signed
}

// admit says whether the lists let a chain in, whose last one is trusted by itself.
func (c *crls) admit(chain []*x509.Certificate, now time.Time) *untrusted {
	if !c.wanted {
		return nil
	}
	if err := c.revoked(chain); err != nil {
		return err
	}
	for _, authority := range chain[1:] {
		if err := c.inForce(authority, now); err != nil {
			return err
		}
	}
	return nil
}

// inForce says whether an authority has a list that is in force.
func (c *crls) inForce(authority *x509.Certificate, now time.Time) *untrusted {
	signed := c.of(authority)
	if len(signed) == 0 {
		for _, one := range c.all {
			if bytes.Equal(one.list.RawIssuer, authority.RawSubject) {
				return &untrusted{untrustedForgedCRL, fmt.Errorf("the revocation list %s bears the name of %q and was not signed by it", one.file, authority.Subject)}
			}
		}
		return &untrusted{untrustedNoCRL, fmt.Errorf("there is no revocation list of the authority %q; name its file, too", authority.Subject)}
	}
	for _, one := range signed {
		if now.Before(one.list.NextUpdate) && !now.Before(one.list.ThisUpdate.Add(-crlSkew)) {
			return nil
		}
	}
	one := signed[len(signed)-1].list
	return &untrusted{untrustedOldCRL, fmt.Errorf("the revocation list of %q was good from %s until %s; get a new one (davit ca crl makes it in a lab)",
		authority.Subject, one.ThisUpdate.Format(time.RFC3339), one.NextUpdate.Format(time.RFC3339))}
}

// revoked says whether any list names a certificate of the chain. One that is past
// its end counts: what it revokes stays revoked.
func (c *crls) revoked(chain []*x509.Certificate) *untrusted {
	for i, cert := range chain[:len(chain)-1] {
		for _, one := range c.of(chain[i+1]) {
			if _, ok := one.serials[string(cert.SerialNumber.Bytes())]; ok {
				return &untrusted{untrustedRevoked, fmt.Errorf("the certificate of %q, serial %x, is revoked", cert.Subject, cert.SerialNumber)}
			}
		}
	}
	return nil
}

// nextUpdate is when the first of the lists ends; zero if there is none.
func (c *crls) nextUpdate() (first time.Time) {
	for _, one := range c.all {
		if first.IsZero() || one.list.NextUpdate.Before(first) {
			first = one.list.NextUpdate
		}
	}
	return first
}

// entries is how many certificates the lists revoke.
func (c *crls) entries() (n int) {
	for _, one := range c.all {
		n += len(one.serials)
	}
	return n
}
