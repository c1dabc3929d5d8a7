package app

import (
	"context"
	"crypto/tls"
	"time"

	"davit/broker"
	"davit/internal/app/address"
	"davit/internal/logevent"
)

// listeners are the embedded broker's; the plain MQTT one comes first.
func listeners(o ServerOptions, certificate *broker.Certificate) ([]broker.Listener, error) {
	var secure *tls.Config
	var trust *broker.ClientTrust
	var err error
	if certificate != nil {
		secure = certificate.TLS()
	}
	if o.ClientCA != "" {
		if trust, err = broker.NewClientTrust(broker.TrustOptions{CAFile: o.ClientCA, CRLFiles: o.ClientCRLs, Required: o.ClientAuth != AuthAllow}); err != nil {
			return nil, err
		}
	}
	all := []broker.Listener{{Transport: broker.TCP, Addr: o.MQTT}}
	if o.MQTTS != "" {
		all = append(all, broker.Listener{Transport: broker.TCP, Addr: o.MQTTS, TLS: secure, Trust: trust})
	}
	if o.Websocket != "" {
		l := broker.Listener{Transport: broker.WebSocket, Addr: o.Websocket, TLS: secure}
		if secure != nil {
			l.Trust = trust
		}
		all = append(all, l)
	}
	for i := range all {
		all[i].NoPasswords = !o.passwordsOn(all[i].Addr)
	}
	return all, nil
}

// passwordsOn says whether devices may log in with a password on a listener.
func (o *ServerOptions) passwordsOn(addr string) bool {
	switch o.Passwords {
	case PasswordsOn:
		return true
	case PasswordsOff:
		return false
	}
	return address.CheckLoopback(addr) == nil
}

// tellPasswords says at the start who may log in where, as far as that may surprise.
func (s *Server) tellPasswords(o ServerOptions, all []broker.Listener) {
	for _, l := range all {
		switch {
		case !l.NoPasswords && l.TLS == nil && address.CheckLoopback(l.Addr) != nil:
			s.log.Warn("passwords of devices and bridges pass unencrypted on this listener; that is for a lab", "event", logevent.ListenerUnencrypted, "address", l.Addr, "transport", string(l.Transport))
		case l.NoPasswords && l.Trust == nil:
			s.log.Warn("no device and no bridge can log in on this listener, because passwords are off where it is not on loopback and it takes no certificates; "+
				"give them certificates (--mqtts with --mqtts-client-ca, docs/security.md), or say --passwords on in a lab", "event", logevent.ListenerUnusable,
				"address", l.Addr, "transport", string(l.Transport), "passwords", o.Passwords)
		case l.NoPasswords:
			s.log.Info("devices and bridges log in with certificates only on this listener", "event", logevent.ListenerCertificates, "address", l.Addr, "transport", string(l.Transport))
		}
	}
}

// knowsDevice says whether the service has a device. The broker asks once there is
// somebody to let in, and by then the service is there.
func (s *Server) knowsDevice(device string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := s.service.Device(ctx, device)
	return err == nil
}
