package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"davit/gateway"
	"davit/gateway/people"
	"davit/internal/app/settings"
	"davit/orchestrator"
)

// OIDC says how people sign in through OpenID Connect; without an issuer they do not.
type OIDC struct {
	// Issuer is the provider's URL, ClientID what it calls this service.
	Issuer, ClientID string
	// SecretFile holds the client's secret; empty for a public client.
	SecretFile string
	// RoleClaim is the claim that says what somebody is, Roles have "VALUE=ROLE".
	RoleClaim string
	Roles     []string
	// DefaultRole is for those whose claim says nothing; empty refuses them.
	DefaultRole string
}

// validatePeople checks the options about people.
func (o *ServerOptions) validatePeople() error {
	var wrong []error
	public := o.checkPublicURL()
	if public != nil {
		wrong = append(wrong, public)
	}
	for _, p := range o.TrustedProxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			if _, err := netip.ParseAddr(p); err != nil {
				wrong = append(wrong, fmt.Errorf("--trusted-proxy: %q is neither a network such as 10.0.0.0/8 nor an address", p))
			}
		}
	}
	with := o.OIDC.Issuer != ""
	switch c := o.OIDC; {
	case with && o.PublicURL == "":
		wrong = append(wrong, errors.New("--oidc-issuer needs --public-url, where browsers find the console and the provider sends them back to"))
	case !with && (c.ClientID != "" || c.SecretFile != "" || c.RoleClaim != "" || len(c.Roles) > 0 || c.DefaultRole != ""):
		wrong = append(wrong, errors.New("--oidc-* need --oidc-issuer, the URL of the provider"))
	}
	options, err := o.oidc()
	wrong = append(wrong, settings.Each(err)...)
	for _, err := range settings.Each(options.Validate()) {
		var bad *people.OptionError
		if !errors.As(err, &bad) {
			wrong = append(wrong, err)
			continue
		}
		switch bad.Option {
		case people.OptionRoles:
			wrong = append(wrong, fmt.Errorf("--oidc-role: %w", err))
		case people.OptionDefaultRole:
			wrong = append(wrong, fmt.Errorf("--oidc-default-role: %w", err))
		case people.OptionRedirectURL:
			if with && o.PublicURL != "" && public == nil {
				wrong = append(wrong, fmt.Errorf("OpenID Connect (--public-url): %w", err))
			}
		case people.OptionRoleClaim:
			if with && len(options.Roles) == len(o.OIDC.Roles) { // otherwise it follows from one that is wrong
				wrong = append(wrong, fmt.Errorf("OpenID Connect (--oidc-issuer): %w", err))
			}
		default:
			if with {
				wrong = append(wrong, fmt.Errorf("OpenID Connect (--oidc-issuer): %w", err))
			}
		}
	}
	return errors.Join(wrong...)
}

// checkPublicURL says what is wrong with the form of PublicURL.
func (o *ServerOptions) checkPublicURL() error {
	if o.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(o.PublicURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		shown := o.PublicURL
		if err == nil {
			shown = u.Redacted()
		}
		return fmt.Errorf("--public-url: %q is not of the form https://HOST[:PORT]", shown)
	}
	return nil
}

// oidc are the options without the secret. The error has every role that is not of the form; the others are returned.
func (o *ServerOptions) oidc() (people.OIDCOptions, error) {
	roles := map[string]people.Role{}
	var wrong []error
	for _, text := range o.OIDC.Roles {
		i := strings.LastIndexByte(text, '=')
		if i <= 0 {
			wrong = append(wrong, fmt.Errorf("--oidc-role: %q is not of the form VALUE=ROLE", text))
			continue
		}
		roles[text[:i]] = people.Role(text[i+1:])
	}
	return people.OIDCOptions{
		Issuer: o.OIDC.Issuer, ClientID: o.OIDC.ClientID, RedirectURL: strings.TrimSuffix(o.PublicURL, "/") + people.CallbackPath,
		RoleClaim: o.OIDC.RoleClaim, Roles: roles, DefaultRole: people.Role(o.OIDC.DefaultRole),
	}, errors.Join(wrong...)
}

// openPeople opens the directory of people, and the way in through OpenID Connect if
// there is one.
func (s *Server) openPeople(o ServerOptions, store orchestrator.Store, token string, counters *gateway.Metrics) error {
	log := s.log.With("part", "people")
	var err error
	s.people, err = people.New(people.Options{Store: store, AdminToken: token, Log: log, OnSignIn: counters.SignIn})
	if err != nil {
		return fmt.Errorf("%s: %w", TokenFile(o.Data), err)
	}
	if o.OIDC.Issuer == "" {
		return nil
	}
	options, err := o.oidc()
	if err != nil {
		return err
	}
	if o.OIDC.SecretFile != "" {
		b, err := os.ReadFile(o.OIDC.SecretFile)
		if err != nil {
			return fmt.Errorf("the secret of OpenID Connect: %w", err)
		}
		if options.ClientSecret = strings.TrimSpace(string(b)); options.ClientSecret == "" {
			return fmt.Errorf("the secret of OpenID Connect: %s is empty", o.OIDC.SecretFile)
		}
	}
	if s.oidc, err = people.NewOIDC(s.people, options); err != nil {
		return err
	}
	s.cleanup.add("OpenID Connect", s.oidc.Close)
	return nil
}

// checkPeople adds what is wrong with users, sessions and tokens to a report.
func checkPeople(ctx context.Context, store orchestrator.Store, report *orchestrator.CheckReport) error {
	return store.View(ctx, func(r orchestrator.Reader) error {
		violations, err := people.Check(r)
		for _, v := range violations {
			report.Count++
			if len(report.Violations) < orchestrator.MaxViolations {
				report.Violations = append(report.Violations, v)
			}
		}
		return err
	})
}
