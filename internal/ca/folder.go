package ca

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"davit/internal/durable"
)

// The names in the folder of an authority.
const (
	CertificateFile = "ca.pem"  // the authority's own certificate
	KeyFile         = "ca.key"  // its key, for its owner only
	CRLFile         = "crl.pem" // the revocation list
	IndexFile       = "index.json"
	IssuedDir       = "issued" // certificates and keys by kind and name
)

const indexVersion = 1

// Kind says what a certificate is for.
type Kind string

// The kinds of certificates.
const (
	Device Kind = "device"
	Bridge Kind = "bridge"
	Server Kind = "server"
)

// Entry is one certificate that was issued.
type Entry struct {
	Serial    string    `json:"serial"` // hex, lower case
	Kind      Kind      `json:"kind"`
	Name      string    `json:"name"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	Reason    string    `json:"reason,omitempty"` // RFC 5280, 5.3.1
}

// Revoked says whether the certificate was revoked.
func (e *Entry) Revoked() bool { return !e.RevokedAt.IsZero() }

type index struct {
	Version   int     `json:"version"`
	CRLNumber int64   `json:"crl_number"` // of the last one
	CRLDays   int     `json:"crl_days"`   // how long one is good for
	Issued    []Entry `json:"issued"`
}

// folder is an authority's folder that is locked.
type folder struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	index
}

// locked calls fn while no other process has the folder.
func locked(dir string, fn func() error) (err error) {
	lock, err := durable.Lock(dir, "davit ca")
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no folder %s; davit ca init %s makes an authority there", dir, dir)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if err := durable.RemoveTemp(dir); err != nil {
		return fmt.Errorf("sweep the folder: %w", err)
	}
	return fn()
}

// with opens the authority in dir and calls fn while no other process has it.
func with(dir string, fn func(*folder) error) error {
	return locked(dir, func() error {
		f, err := open(dir)
		if err != nil {
			return err
		}
		return fn(f)
	})
}

func open(dir string) (*folder, error) {
	f := &folder{dir: dir}
	certPEM, err := os.ReadFile(f.path(CertificateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no certificate authority; davit ca init %s makes one", dir, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("read the authority's certificate: %w", err)
	}
	if f.cert, err = decode(certPEM, "CERTIFICATE", x509.ParseCertificate); err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(CertificateFile), err)
	}
	keyPEM, err := os.ReadFile(f.path(KeyFile))
	if err != nil {
		return nil, fmt.Errorf("read the authority's key: %w", err)
	}
	key, err := decode(keyPEM, "PRIVATE KEY", x509.ParsePKCS8PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path(KeyFile), err)
	}
	var ok bool
	if f.key, ok = key.(*ecdsa.PrivateKey); !ok || !f.key.PublicKey.Equal(f.cert.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s", f.path(KeyFile), f.path(CertificateFile))
	}
	return f, f.readIndex()
}

func (f *folder) readIndex() error {
	data, err := os.ReadFile(f.path(IndexFile))
	if err != nil {
		return fmt.Errorf("read the index of what was issued: %w", err)
	}
	if err := json.Unmarshal(data, &f.index); err != nil {
		return fmt.Errorf("%s: %w", f.path(IndexFile), err)
	}
	if f.Version != indexVersion {
		return fmt.Errorf("%s has version %d, this program knows %d", f.path(IndexFile), f.Version, indexVersion)
	}
	return nil
}

func (f *folder) writeIndex() error {
	data, err := json.MarshalIndent(&f.index, "", " ")
	if err != nil {
		return fmt.Errorf("encode the index: %w", err)
	}
	if err := durable.WriteFile(f.path(IndexFile), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the index of what was issued: %w", err)
	}
	return nil
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }

// decode reads the one PEM block of a file.
func decode[T any](data []byte, kind string, parse func([]byte) (T, error)) (v T, err error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind {
		return v, fmt.Errorf("the file does not begin with a PEM block %q", kind)
	}
	return parse(block.Bytes)
}

func writePEM(path, kind string, der []byte, perm fs.FileMode) error {
	if err := durable.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), perm); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode a key: %w", err)
	}
	return writePEM(path, "PRIVATE KEY", der, 0o600)
}
