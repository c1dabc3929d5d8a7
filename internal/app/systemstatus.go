package app

import (
	"os"
	"path/filepath"
	"time"

	"davit/gateway"
	"davit/internal/app/address"
	"davit/internal/durable"
)

// connectedByType counts connected devices; nil with an external broker.
func (s *Server) connectedByType() func() map[string]int {
	if s.connected == nil {
		return nil
	}
	return s.connected.byType
}

// systemStatus is what a Server tells of itself and its machine.
func (s *Server) systemStatus(o ServerOptions, since time.Time) func() gateway.SystemStatus {
	version := ReadBuild().Version
	return func() gateway.SystemStatus {
		t := gateway.SystemStatus{Version: version, Since: since, Broker: "embedded", DiskFree: -1, DiskAll: -1, Certificates: []gateway.CertificateStatus{}}
		if o.External.URL != "" {
			t.Broker = address.Broker(o.External.URL)
		}
		if info, err := os.Stat(filepath.Join(o.Data, storeName)); err == nil {
			t.Store = info.Size()
		}
		if free, all, err := durable.Room(o.Data); err == nil {
			t.DiskFree, t.DiskAll = free, all
		}
		if s.certificate != nil {
			t.Certificates = append(t.Certificates, gateway.CertificateStatus{File: o.TLSCert, Ends: s.certificate.NotAfter()})
		}
		return t
	}
}
