package app

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"davit/broker"
	"davit/internal/ca"
)

// TestPasswordsByListener holds where devices may log in with a password, and what the
// service says of it when it starts.
func TestPasswordsByListener(t *testing.T) {
	cert, key := certificate(t)
	dir := t.TempDir() + "/ca"
	if err := ca.Init(dir, ca.New{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		passwords, mqtt, mqtts string
		ca                     bool
		off                    []bool // on the plain listener and on that with TLS
		says                   []string
	}{
		{"", "127.0.0.1:0", "", false, []bool{false}, nil},
		{"auto", "[::1]:0", "localhost:0", false, []bool{false, false}, nil},
		{"auto", ":0", "", false, []bool{true}, []string{"no device and no bridge can log in", "--passwords on", "address=:0"}},
		{"auto", "0.0.0.0:0", "192.0.2.1:0", true, []bool{true, true}, []string{"no device and no bridge can log in", "with certificates only"}},
		{"auto", "127.0.0.1:0", ":0", true, []bool{false, true}, []string{"with certificates only"}},
		{"on", ":0", ":0", false, []bool{false, false}, []string{"pass unencrypted"}},
		{"off", "127.0.0.1:0", "127.0.0.1:0", true, []bool{true, true}, []string{"no device and no bridge can log in", "passwords=off"}},
	} {
		o := ServerOptions{Data: "d", HTTP: "127.0.0.1:0", MQTT: tt.mqtt, MQTTS: tt.mqtts, TLSCert: cert, TLSKey: key, Passwords: tt.passwords}
		if tt.ca {
			o.ClientCA, o.ClientCRLs = dir+"/"+ca.CertificateFile, []string{dir + "/" + ca.CRLFile}
		}
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		certificate, err := broker.LoadCertificate(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		all, err := listeners(o, certificate)
		if err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		(&Server{log: slog.New(slog.NewTextHandler(&said, nil))}).tellPasswords(o, all)
		for i, want := range tt.off {
			if all[i].NoPasswords != want || (all[i].Trust != nil) != (tt.ca && i > 0) {
				t.Errorf("%+v: listener %d: %+v", tt, i, all[i])
			}
		}
		if len(tt.says) == 0 && said.Len() > 0 {
			t.Errorf("%+v: said %s", tt, said.String())
		}
		for _, want := range tt.says {
			if !strings.Contains(said.String(), want) {
				t.Errorf("%+v: said %q, want %q", tt, said.String(), want)
			}
		}
	}
}
