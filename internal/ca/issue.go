package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"davit/internal/durable"
	"davit/schemas"
)

// Lifetimes in days unless told otherwise.
const (
	DefaultRootDays   = 3650
	DefaultIssuedDays = 365
	DefaultCRLDays    = 90
)

const (
	day = 24 * time.Hour
	// skew is how long before the moment of issue a certificate begins to be valid:
	// the clocks of devices differ.
	skew = 5 * time.Minute
	// maxDays keeps every time in the form that certificates have room for.
	maxDays = 36500
)

// New describes a new authority.
type New struct {
	// Name is the common name of its certificate.
	Name string
	// Days is how long the certificate is valid, CRLDays how long each revocation
	// list is; 0 means the defaults.
	Days, CRLDays int
}

// Init makes an authority in dir, which is made if it is not there. It refuses to
// replace one.
func Init(dir string, n New, now time.Time) error {
	days, err := lifetime(n.Days, DefaultRootDays)
	if err != nil {
		return err
	}
	crlDays, err := lifetime(n.CRLDays, DefaultCRLDays)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, IssuedDir), 0o700); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	return locked(dir, func() error {
		f := &folder{dir: dir, index: index{Version: indexVersion, CRLDays: crlDays}}
		if _, err := os.Stat(f.path(CertificateFile)); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("%s holds a certificate authority already; choose another folder", dir), err)
		}
		if err := f.makeRoot(n.Name, days, now); err != nil {
			return err
		}
		// The certificate comes last: without it the folder is no authority yet, and Init may be repeated.
		if err := writeKey(f.path(KeyFile), f.key); err != nil {
			return err
		}
		if err := f.writeCRL(now); err != nil {
			return err
		}
		return writePEM(f.path(CertificateFile), "CERTIFICATE", f.cert.Raw, 0o644)
	})
}

func (f *folder) makeRoot(name string, days int, now time.Time) (err error) {
	if name == "" {
		name = "davit lab CA"
	}
	if f.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-skew), NotAfter: now.Add(time.Duration(days) * day),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:     true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, f.key.Public(), f.key)
	if err != nil {
		return fmt.Errorf("make the authority's certificate: %w", err)
	}
	f.cert, err = x509.ParseCertificate(der)
	return err
}

// Request describes a certificate to issue.
type Request struct {
	Kind Kind
	// Name is the id of a device or bridge, or the names and addresses of a server,
	// separated by commas.
	Name string
	// Days is how long it is valid; 0 means DefaultIssuedDays. No certificate outlives
	// the authority.
	Days int
}

// Issued is a certificate that was issued, and where it is.
type Issued struct {
	Entry
	Certificate string `json:"certificate"` // PEM file
	Key         string `json:"key"`         // PEM file, for its owner only
}

// Issue makes a key and a certificate for it. A second one for the same name takes
// the place of its files; the first stays valid until it is revoked or ends.
func Issue(dir string, r Request, now time.Time) (out Issued, err error) {
	days, err := lifetime(r.Days, DefaultIssuedDays)
	if err != nil {
		return out, err
	}
	template, file, err := r.template()
	if err != nil {
		return out, err
	}
	err = with(dir, func(f *folder) error {
		template.NotBefore, template.NotAfter = now.Add(-skew), now.Add(time.Duration(days)*day)
		if template.NotAfter.After(f.cert.NotAfter) {
			template.NotAfter = f.cert.NotAfter
		}
		if !now.Before(f.cert.NotAfter) {
			return fmt.Errorf("the authority's certificate ended at %s; make a new authority in another folder", f.cert.NotAfter.Format(time.RFC3339))
		}
		out, err = f.issue(r, template, file)
		return err
	})
	return out, err
}

func (f *folder) issue(r Request, template *x509.Certificate, file string) (out Issued, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return out, fmt.Errorf("make a key: %w", err)
	}
	if template.SerialNumber, err = newSerial(); err != nil {
		return out, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, f.cert, key.Public(), f.key)
	if err != nil {
		return out, fmt.Errorf("make a certificate for %s %s: %w", r.Kind, r.Name, err)
	}
	out = Issued{
		Entry:       Entry{Serial: template.SerialNumber.Text(16), Kind: r.Kind, Name: r.Name, NotBefore: template.NotBefore.UTC(), NotAfter: template.NotAfter.UTC()},
		Certificate: filepath.Join(f.dir, IssuedDir, file+".pem"), Key: filepath.Join(f.dir, IssuedDir, file+".key"),
	}
	f.Issued = append(f.Issued, out.Entry)
	if err := f.writeIndex(); err != nil {
		return out, err
	}
	if err := durable.RemoveTemp(filepath.Join(f.dir, IssuedDir)); err != nil {
		return out, fmt.Errorf("sweep the folder: %w", err)
	}
	if err := writeKey(out.Key, key); err != nil {
		return out, err
	}
	return out, writePEM(out.Certificate, "CERTIFICATE", der, 0o644)
}

// template is what a request says of the certificate, and the name of its files.
func (r Request) template() (*x509.Certificate, string, error) {
	t := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
	switch r.Kind {
	case Device, Bridge:
		if err := schemas.ValidateID(r.Name); err != nil {
			return nil, "", fmt.Errorf("%s id: %w", r.Kind, err)
		}
		uri, err := url.Parse(schemas.Identity{Kind: schemas.IdentityKind(r.Kind), ID: r.Name}.String())
		if err != nil {
			return nil, "", fmt.Errorf("%s id %q: %w", r.Kind, r.Name, err)
		}
		t.Subject, t.URIs = pkix.Name{CommonName: r.Name}, []*url.URL{uri}
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		return t, string(r.Kind) + "-" + r.Name, nil
	case Server:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		names := strings.Split(r.Name, ",")
		for _, name := range names {
			if ip := net.ParseIP(name); ip != nil {
				t.IPAddresses = append(t.IPAddresses, ip)
			} else if isHostName(name) {
				t.DNSNames = append(t.DNSNames, name)
			} else {
				return nil, "", fmt.Errorf("%q is neither a host name nor an IP address", name)
			}
		}
		if len(names[0]) <= 64 { // what a common name may have; the names that count are the others
			t.Subject = pkix.Name{CommonName: names[0]}
		}
		return t, "server-" + strings.NewReplacer(":", "_", "*", "_").Replace(names[0]), nil
	}
	return nil, "", fmt.Errorf("%q is no kind of certificate; there are device, bridge and server", r.Kind)
}

// isHostName says whether s is a DNS name, of which the first label may be *.
func isHostName(s string) bool {
	s = strings.TrimPrefix(s, "*.")
	if s == "" || len(s) > 200 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

func lifetime(days, otherwise int) (int, error) {
	if days == 0 {
		return otherwise, nil
	}
	if days < 0 || days > maxDays {
		return 0, fmt.Errorf("a lifetime of %d days; allowed are 1 to %d", days, maxDays)
	}
	return days, nil
}

// newSerial is a random serial number of 127 bits, so that none is given twice and
// none can be guessed (RFC 5280, 4.1.2.2).
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return n.SetBit(n, 126, 1), nil
}
