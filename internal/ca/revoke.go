package ca

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"
)

// crlMemory is how long after its end a revoked certificate still stands in the
// list, so that no list leaves it out before the last clock says that it has ended.
const crlMemory = 7 * day

// reasons are those of RFC 5280, 5.3.1, that make sense here.
var reasons = map[string]int{
	"unspecified": 0, "key-compromise": 1, "affiliation-changed": 3, "superseded": 4, "cessation-of-operation": 5, "privilege-withdrawn": 9,
}

// Reasons are the words for why a certificate is revoked.
func Reasons() []string { return slices.Sorted(maps.Keys(reasons)) }

// Selection says which certificates are meant: the one with a serial number, or all
// of a name that have not ended.
type Selection struct {
	Serial string // hex, as List tells it
	Kind   Kind
	Name   string
}

func (s Selection) matches(e *Entry, now time.Time) bool {
	if s.Serial != "" {
		return e.Serial == s.Serial
	}
	return e.Kind == s.Kind && e.Name == s.Name && now.Before(e.NotAfter)
}

func (s Selection) String() string {
	if s.Serial != "" {
		return "the serial number " + s.Serial
	}
	return fmt.Sprintf("%s %s", s.Kind, s.Name)
}

// Revoke revokes certificates and writes a new revocation list. It returns those
// that it revoked. Repeating it is no error: one that is revoked already stays as it
// is, and the list is written again.
func Revoke(dir string, s Selection, reason string, now time.Time) (revoked []Entry, err error) {
	if reason == "" {
		reason = "unspecified"
	}
	if _, ok := reasons[reason]; !ok {
		return nil, fmt.Errorf("the reason is %q; allowed are %s", reason, strings.Join(Reasons(), ", "))
	}
	s.Serial = strings.TrimLeft(strings.ToLower(strings.ReplaceAll(s.Serial, ":", "")), "0")
	err = with(dir, func(f *folder) error {
		found := false
		for i := range f.Issued {
			e := &f.Issued[i]
			if !s.matches(e, now) {
				continue
			}
			found = true
			if !e.Revoked() {
				e.RevokedAt, e.Reason = now.UTC().Truncate(time.Second), reason
				revoked = append(revoked, *e)
			}
		}
		if !found {
			return fmt.Errorf("this authority has issued no valid certificate for %s; davit ca list %s tells what it has issued", s, dir)
		}
		return f.writeCRL(now)
	})
	return revoked, err
}

// WriteCRL writes a new revocation list, which is good for as long as Init was told.
// It returns when it ends.
func WriteCRL(dir string, now time.Time) (end time.Time, err error) {
	err = with(dir, func(f *folder) error {
		end = f.crlEnd(now)
		return f.writeCRL(now)
	})
	return end, err
}

// List returns what the authority has issued, oldest first.
func List(dir string) (all []Entry, err error) {
	err = with(dir, func(f *folder) error {
		all = f.Issued
		return nil
	})
	return all, err
}

func (f *folder) crlEnd(now time.Time) time.Time {
	return now.Add(time.Duration(f.CRLDays) * day).UTC().Truncate(time.Second)
}

// writeCRL writes the index and then the list that follows from it.
func (f *folder) writeCRL(now time.Time) error {
	f.CRLNumber++
	if err := f.writeIndex(); err != nil {
		return err
	}
	list := &x509.RevocationList{Number: big.NewInt(f.CRLNumber), ThisUpdate: now.Add(-skew), NextUpdate: f.crlEnd(now)}
	for i := range f.Issued {
		e := &f.Issued[i]
		if !e.Revoked() || now.After(e.NotAfter.Add(crlMemory)) {
			continue
		}
		serial, ok := new(big.Int).SetString(e.Serial, 16)
		if !ok {
			return fmt.Errorf("%s: the serial number %q is not hexadecimal", f.path(IndexFile), e.Serial)
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: e.RevokedAt, ReasonCode: reasons[e.Reason]})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, f.cert, f.key)
	if err != nil {
		return fmt.Errorf("make the revocation list: %w", err)
	}
	if err := writePEM(f.path(CRLFile), "X509 CRL", der, 0o644); err != nil {
		return errors.Join(err, errors.New("what was revoked is noted; davit ca crl writes the list once that is mended"))
	}
	return nil
}
