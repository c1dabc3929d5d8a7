package app

import (
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"davit/broker"
	"davit/internal/app/keyfile"
	"davit/internal/filestamp"
	"davit/internal/keystate"
	"davit/internal/logevent"
	"davit/trust"
)

// What files are called in logs and metrics.
const (
	followedKeys        = "image_keys"
	followedCertificate = "tls_certificate"
)

// keyListName is the file of the data folder that remembers which key list was accepted.
const keyListName = "keylist.json"

// keyState is that file.
func keyState(dir string) keystate.File { return keystate.File(filepath.Join(dir, keyListName)) }

// readKeys reads the keys that images are verified with, and remembers their list.
func readKeys(from *keyfile.Source, dir string) (trust.KeySet, *trust.KeyRing, error) {
	keys, ring, err := from.Read()
	if err == nil {
		err = keyState(dir).Accept(ring)
	}
	return keys, ring, err
}

// openFiles reads what is followed while the server runs: keys and certificate.
func (s *Server) openFiles(o ServerOptions, registry prometheus.Registerer) (trust.KeySet, *trust.KeyRing, error) {
	s.files = newFollower(s.log.With("part", "files"), registry)
	keys, ring, err := s.openKeys(o.Keys, o.Data)
	if err == nil {
		err = s.openCertificate(o)
	}
	if s.certificate != nil {
		registry.MustRegister(newCertificateEnd(s.certificate))
	}
	return keys, ring, err
}

// openKeys reads the keys, and has their files followed once there is a service.
func (s *Server) openKeys(from keyfile.Source, dir string) (trust.KeySet, *trust.KeyRing, error) {
	if from.None() {
		return trust.KeySet{}, nil, nil
	}
	files := from.Files()
	before := filestamp.All(files)
	keys, ring, err := readKeys(&from, dir)
	if err != nil {
		return keys, ring, err
	}
	s.files.add(followedKeys, files, before, func() error {
		keys, ring, err := readKeys(&from, dir)
		if err != nil {
			return err
		}
		if err := s.service.SetKeys(keys, ring); err != nil {
			return err
		}
		attrs := []any{"keys", len(keys.Keys), "threshold", keys.Threshold}
		if ring != nil {
			list := ring.List()
			attrs = []any{"key_list", list.Version, "expires", list.Expires, "revoked", len(list.Revoked)}
		}
		s.log.Info("image keys are in force", append(attrs, "event", logevent.KeysInForce)...)
		return nil
	})
	return keys, ring, nil
}

// openCertificate reads the certificate for listeners over TLS and follows its files; nil
// without one.
func (s *Server) openCertificate(o ServerOptions) error {
	if o.TLSCert == "" {
		return nil
	}
	files := []string{o.TLSCert, o.TLSKey}
	before := filestamp.All(files)
	var err error
	if s.certificate, err = broker.LoadCertificate(o.TLSCert, o.TLSKey); err != nil {
		return err
	}
	s.certificateInTime()
	s.files.add(followedCertificate, files, before, func() error {
		if err := s.certificate.Reload(); err != nil {
			return err
		}
		s.certificateInTime()
		return nil
	})
	return nil
}

// certificateInTime logs that the certificate in force has ended, or not begun. The service goes on with it: it
// has other listeners, and some clients do not ask.
func (s *Server) certificateInTime() {
	if err := s.certificate.InTime(time.Now()); err != nil {
		s.log.Error("whoever verifies the TLS certificate does not connect", "event", logevent.CertificateOutOfTime, "error", err)
	}
}
