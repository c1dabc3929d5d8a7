package broker

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"time"
)

// Certificate is a server's certificate with its key, from PEM files that can be read again
// while listeners use it.
type Certificate struct {
	certFile, keyFile string
	now               atomic.Pointer[tls.Certificate]
}

// LoadCertificate reads the files.
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the files again. Connections that begin from now on are shown what they
// say; on an error, such as a key that is another certificate's, what was before.
func (c *Certificate) Reload() error {
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("load TLS certificate %s with key %s: %w; name the PEM file of the certificate with its chain, and that of its own key, which must not be encrypted", c.certFile, c.keyFile, err)
	}
	c.now.Store(&cert)
	return nil
}

// NotAfter is when the certificate ends that connections are shown now.
func (c *Certificate) NotAfter() time.Time { return c.now.Load().Leaf.NotAfter }

// InTime is nil while the certificate that connections are shown now is valid by its dates, and otherwise
// says why nobody who verifies it will connect.
func (c *Certificate) InTime(now time.Time) error {
	switch leaf := c.now.Load().Leaf; {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate %s has come to its end on %s", c.certFile, leaf.NotAfter.UTC().Format(time.DateTime))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate %s begins to be valid on %s only", c.certFile, leaf.NotBefore.UTC().Format(time.DateTime))
	}
	return nil
}

// TLS makes the configuration of a Listener, or of any other server, that shows the
// certificate.
func (c *Certificate) TLS() *tls.Config {
	return &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil },
		MinVersion:     tls.VersionTLS12,
	}
}
