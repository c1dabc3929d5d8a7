package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLSFiles are the PEM files of a connection over TLS. They are read anew for each
// connection, so that a renewed certificate, or another authority, is in use from the
// next one on; a file that cannot be read then is an error of that connection.
type TLSFiles struct {
	// CA vouches for the broker; empty means the system's authorities.
	CA string
	// Cert and Key are the client's own certificate, with its chain, and key; both are
	// empty for none. Where the broker knows it, no password is needed.
	Cert, Key string
}

// Load makes the configuration of connections to a host, and reads the files once, so
// that a mistake shows at once.
func (f TLSFiles) Load(host string) (*tls.Config, error) {
	if (f.Cert == "") != (f.Key == "") {
		return nil, errors.New("a client certificate and its key belong together")
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		if _, err := f.authorities(); err != nil {
			return nil, err
		}
		// The library verifies against roots that are fixed when it begins; we do so against those that
		// the file has, by the same rules, after it has checked the signature of the handshake.
		conf.InsecureSkipVerify = true
		conf.VerifyConnection = func(cs tls.ConnectionState) error { return f.verify(cs, host) }
	}
	if f.Cert != "" {
		if _, err := f.certificate(); err != nil {
			return nil, err
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.certificate() }
	}
	return conf, nil
}

func (f TLSFiles) authorities() (*x509.CertPool, error) {
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("read the broker's certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", f.CA)
	}
	return pool, nil
}

func (f TLSFiles) certificate() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("load the client certificate %s with the key %s: %w", f.Cert, f.Key, err)
	}
	return &cert, nil
}

// verify verifies the broker's certificate.
func (f TLSFiles) verify(cs tls.ConnectionState, host string) error {
	roots, err := f.authorities()
	if err != nil {
		return err
	}
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the broker has shown no certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range cs.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err = cs.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, DNSName: host, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}
