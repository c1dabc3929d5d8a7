package app_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/internal/app"
)

func TestOptionsAboutPeople(t *testing.T) {
	good := func() app.ServerOptions {
		return app.ServerOptions{
			Data: "x", MQTT: "127.0.0.1:0", HTTP: "127.0.0.1:0", PublicURL: "https://davit.example.com/", TrustedProxies: []string{"10.0.0.0/8", "::1"},
			OIDC: app.OIDC{Issuer: "https://id.example.com", ClientID: "davit", RoleClaim: "groups", Roles: []string{"cn=ota,dc=x=admin"}},
		}
	}
	o := good()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*app.ServerOptions){
		"--public-url":          func(o *app.ServerOptions) { o.PublicURL = "davit.example.com" },
		"of the form https":     func(o *app.ServerOptions) { o.PublicURL = "https://davit.example.com/console" },
		"needs --public-url":    func(o *app.ServerOptions) { o.PublicURL = "" },
		"--trusted-proxy":       func(o *app.ServerOptions) { o.TrustedProxies = []string{"proxy"} },
		"need --oidc-issuer":    func(o *app.ServerOptions) { o.OIDC.Issuer = "" },
		"has to be https":       func(o *app.ServerOptions) { o.OIDC.Issuer = "http://id.example.com" },
		"client id is empty":    func(o *app.ServerOptions) { o.OIDC.ClientID = "" },
		"VALUE=ROLE":            func(o *app.ServerOptions) { o.OIDC.Roles = []string{"admin"} },
		"\"root\"":              func(o *app.ServerOptions) { o.OIDC.Roles = []string{"x=root"} },
		"not which claim":       func(o *app.ServerOptions) { o.OIDC.RoleClaim, o.OIDC.DefaultRole = "", "viewer" },
		"nobody could sign in":  func(o *app.ServerOptions) { o.OIDC.Roles = nil },
		"the default role":      func(o *app.ServerOptions) { o.OIDC.DefaultRole = "guest" },
		"redirect URL \"http:/": func(o *app.ServerOptions) { o.PublicURL = "http://davit.example.com" },
	} {
		o := good()
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}

func TestTheSecretOfOpenIDConnectIsRead(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	o := app.ServerOptions{
		Data: filepath.Join(dir, "data"), MQTT: "127.0.0.1:0", HTTP: "127.0.0.1:0", PublicURL: "http://127.0.0.1:1", Log: slog.New(slog.DiscardHandler),
		OIDC: app.OIDC{Issuer: "http://127.0.0.1:2", ClientID: "davit", SecretFile: secret, DefaultRole: "viewer"},
	}
	for content, want := range map[string]string{"": "is empty", "secret\n": ""} {
		if err := os.WriteFile(secret, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := app.NewServer(o)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want an error with %q, got %v", want, err)
			}
			continue
		}
		if err != nil { // the provider is not there, and need not be
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
