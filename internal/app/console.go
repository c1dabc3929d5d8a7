package app

import (
	"cmp"
	"net/url"

	"davit/gateway"
	"davit/gateway/web"
)

// newConsole makes the console; it shares the provisioner and the slots for uploads
// with the API.
func (s *Server) newConsole(o ServerOptions, p *gateway.Provisioner, uploads *gateway.Slots) (*web.Console, error) {
	options := web.Options{
		Service: s.service, Storage: s.storage, People: s.people, Provision: p, Version: ReadBuild().Version, Log: s.log.With("part", "console"),
		MaxUpload: cmp.Or(o.MaxUpload, gateway.DefaultMaxUpload), MaxImage: cmp.Or(o.MaxImage, DefaultMaxImage),
		Uploads: uploads,
	}
	if s.oidc != nil {
		options.OIDC = providerName(o.OIDC.Issuer)
	}
	return web.New(options)
}

// providerName is what the sign-in page calls an OpenID Connect provider: its host.
func providerName(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil || u.Hostname() == "" {
		return issuer
	}
	return u.Hostname()
}
