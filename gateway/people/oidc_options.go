package people

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// OIDCOptions configure signing in through OpenID Connect.
type OIDCOptions struct {
	// Issuer is the provider's URL, under which its discovery document lies. It has
	// to be https, but for one on this very machine.
	Issuer string
	// ClientID and ClientSecret are ours at the provider; the secret may be empty for
	// a public client, which PKCE protects.
	ClientID, ClientSecret string
	// RedirectURL is where the provider sends browsers back to: the console's public
	// URL and CallbackPath.
	RedirectURL string
	// Scopes to ask for beside openid; nil means profile and email.
	Scopes []string
	// RoleClaim is the claim of the ID token, or of the user info, that says what
	// somebody is: a text or a list of texts. Dots lead into objects, as in
	// "realm_access.roles".
	RoleClaim string
	// Roles says which value of the claim makes which role; of several the highest
	// counts.
	Roles map[string]Role
	// DefaultRole is the role of those whose claim has no such value; empty refuses
	// them.
	DefaultRole Role
	// HTTP reaches the provider; nil means a client of its own.
	HTTP *http.Client
}

// CallbackPath is the path under the console's public URL to which the provider sends
// browsers back.
const CallbackPath = "/sign-in/oidc/callback"

const (
	// providerTimeout bounds one request to the provider.
	providerTimeout = 10 * time.Second
	// maxProviderAnswer bounds what is read of one.
	maxProviderAnswer = 1 << 20
)

// The options that an OptionError names.
const (
	OptionIssuer      = "issuer"
	OptionClientID    = "client id"
	OptionRedirectURL = "redirect URL"
	OptionRoleClaim   = "role claim"
	OptionRoles       = "roles"
	OptionDefaultRole = "default role"
)

// OptionError is what is wrong with one of OIDCOptions.
type OptionError struct {
	Option string // one of the constants above
	text   string
}

func (e *OptionError) Error() string { return e.text }

// Validate checks what can be checked without asking the provider. The error is an OptionError for each
// option that is wrong (errors.Join).
func (o *OIDCOptions) Validate() error {
	var wrong []error
	add := func(option, format string, args ...any) {
		wrong = append(wrong, &OptionError{option, fmt.Sprintf(format, args...)})
	}
	if err := checkProviderURL(OptionIssuer, o.Issuer); err != nil {
		add(OptionIssuer, "%v", err)
	}
	if o.ClientID == "" {
		add(OptionClientID, "the client id is empty; it is what the provider calls this service")
	}
	if err := checkProviderURL(OptionRedirectURL, o.RedirectURL); err != nil {
		add(OptionRedirectURL, "%v", err)
	}
	switch {
	case o.RoleClaim == "" && len(o.Roles) > 0:
		add(OptionRoleClaim, "roles are given for the values of a claim, but not which claim that is")
	case o.RoleClaim == "" && o.DefaultRole == "":
		add(OptionRoleClaim, "neither a role claim nor a default role is given, so nobody could sign in")
	case o.RoleClaim != "" && len(o.Roles) == 0 && o.DefaultRole == "":
		add(OptionRoleClaim, "no value of the claim %q makes a role, so nobody could sign in", o.RoleClaim)
	}
	for _, value := range slices.Sorted(maps.Keys(o.Roles)) {
		if role := o.Roles[value]; !role.Valid() {
			add(OptionRoles, "the value %q of the role claim makes the role %q, which does not exist; there are %s", value, role, names(Roles()))
		}
	}
	if o.DefaultRole != "" && !o.DefaultRole.Valid() {
		add(OptionDefaultRole, "the default role %q does not exist; there are %s", o.DefaultRole, names(Roles()))
	}
	return errors.Join(wrong...)
}

// checkProviderURL accepts https, and http on this machine, where nobody is in
// between.
func checkProviderURL(what, text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("%s %q is not a URL: %w", what, text, err)
	}
	if u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("%s %q is not of the form https://HOST/PATH", what, u.Redacted())
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("%s %q has to be https, because whoever can listen could sign in as anybody", what, text)
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && a.IsLoopback()
}

// providerClient is a client that gives up, and reads no endless answer.
func providerClient(c *http.Client) *http.Client {
	if c == nil {
		c = &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: providerTimeout}).DialContext,
			TLSHandshakeTimeout: providerTimeout, MaxIdleConns: 4, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
		}}
	}
	bounded := *c
	bounded.Timeout = providerTimeout
	next := c.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	bounded.Transport = shortAnswers{next}
	return &bounded
}

// shortAnswers is a transport whose answers end with an error when they are too long.
type shortAnswers struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s shortAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.next.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxProviderAnswer)
	}
	return resp, err
}

// CloseIdleConnections lets http.Client reach the transport below.
func (s shortAnswers) CloseIdleConnections() {
	if c, ok := s.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// roleOf finds the role that claims make, false for none.
func (o *OIDCOptions) roleOf(claims map[string]any) (Role, bool) {
	found := -1
	for _, value := range textsOf(claimAt(claims, o.RoleClaim)) {
		if role, ok := o.Roles[value]; ok {
			found = max(found, slices.Index(Roles(), role))
		}
	}
	if found >= 0 {
		return Roles()[found], true
	}
	return o.DefaultRole, o.DefaultRole != ""
}

// claimAt finds a claim by its name, or by a path of names with dots between them.
func claimAt(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok {
		return v
	}
	name, rest, more := strings.Cut(path, ".")
	inner, ok := claims[name].(map[string]any)
	if !more || !ok {
		return nil
	}
	return claimAt(inner, rest)
}

func textsOf(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var texts []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				texts = append(texts, s)
			}
		}
		return texts
	}
	return nil
}
