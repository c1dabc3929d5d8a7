package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"davit/gateway/people"
)

// The names of the session's cookie. A browser accepts the first one only over TLS,
// from this very host and for all of its paths (RFC 6265bis section 4.1.3.2), so
// nobody in between and no neighbouring host can set it.
const (
	secureCookie = "__Host-davit"
	plainCookie  = "davit"
)

type originKey struct{}

// requestOrigin is where a request comes from, as far as proxies are believed.
type requestOrigin struct {
	address string // the client's, without a port
	secure  bool   // the client speaks TLS
}

// proxies are those whose word on the client is taken.
type proxies []netip.Prefix

// parseProxies reads networks such as 10.0.0.0/8, or single addresses.
func parseProxies(list []string) (proxies, error) {
	var ps proxies
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if a, aErr := netip.ParseAddr(text); aErr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("trusted proxy %q is not a network such as 10.0.0.0/8: %w", text, err)
		}
		ps = append(ps, p.Masked())
	}
	return ps, nil
}

func (ps proxies) trusted(address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a.Unmap().WithZone("")) })
}

// origin finds where a request comes from: the peer of the connection, or, if that is
// a trusted proxy, the last address of X-Forwarded-For that is not one.
func (ps proxies) origin(r *http.Request) requestOrigin {
	o := requestOrigin{address: r.RemoteAddr, secure: r.TLS != nil}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		o.address = ap.Addr().Unmap().WithZone("").String()
	}
	if !ps.trusted(o.address) {
		return o
	}
	if proto := lastOf(r.Header.Values("X-Forwarded-Proto")); proto != "" {
		o.secure = strings.EqualFold(proto, "https")
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		a, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break // a proxy does not write this; what is left of it is anybody's
		}
		o.address = a.Unmap().WithZone("").String()
		if !ps.trusted(o.address) {
			break
		}
	}
	return o
}

func lastOf(values []string) string {
	if len(values) == 0 {
		return ""
	}
	list := strings.Split(values[len(values)-1], ",")
	return strings.TrimSpace(list[len(list)-1])
}

// ClientAddress is the address that a request comes from, for people.SignIn.
func ClientAddress(r *http.Request) string {
	if o, ok := r.Context().Value(originKey{}).(requestOrigin); ok {
		return o.address
	}
	return proxies(nil).origin(r).address
}

// ClientSecure says whether the client speaks TLS, as far as proxies are believed.
func ClientSecure(r *http.Request) bool {
	if o, ok := r.Context().Value(originKey{}).(requestOrigin); ok {
		return o.secure
	}
	return r.TLS != nil
}

func cookieName(r *http.Request) string {
	if ClientSecure(r) {
		return secureCookie
	}
	return plainCookie
}

func cookie(r *http.Request, name, value string) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, Secure: ClientSecure(r), SameSite: http.SameSiteLaxMode}
}

// SetSessionCookie signs the browser in.
func SetSessionCookie(w http.ResponseWriter, r *http.Request, s people.Session) {
	c := cookie(r, cookieName(r), s.Token)
	c.Expires = s.ExpiresAt
	http.SetCookie(w, c)
}

// ClearSessionCookie makes the browser forget its session.
func ClearSessionCookie(w http.ResponseWriter, r *http.Request) {
	c := cookie(r, cookieName(r), "")
	c.MaxAge = -1
	http.SetCookie(w, c)
}

// SessionToken is the token of the browser's session, empty without one.
func SessionToken(r *http.Request) string {
	c, err := r.Cookie(cookieName(r))
	if err != nil {
		return ""
	}
	return c.Value
}

// guardOrigins prepares what tells requests of this site from those of others.
func (a *API) guardOrigins() error {
	var err error
	if a.proxies, err = parseProxies(a.options.TrustedProxies); err != nil {
		return err
	}
	a.crossOrigin = http.NewCrossOriginProtection()
	if a.options.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(a.options.PublicURL)
	if err == nil {
		err = a.crossOrigin.AddTrustedOrigin(u.Scheme + "://" + u.Host)
	}
	if err != nil {
		return fmt.Errorf("public URL %q: %w", a.options.PublicURL, err)
	}
	return nil
}

// EndSession ends the session that a browser had before somebody signs in with it: a
// new session never goes by an old name, and none is left over that somebody else may
// know.
func EndSession(r *http.Request, d *people.Directory) error {
	token := SessionToken(r)
	if token == "" {
		return nil
	}
	if err := d.SignOut(r.Context(), token); err != nil && !errors.Is(err, people.ErrNoSession) {
		return err
	}
	return nil
}

// LocalPath is next if that is a path of the console to go on at, and otherwise, such as
// for the address of another site, the fallback. Browsers take a backslash for a slash,
// and leave out tabs and line ends wherever they stand (WHATWG URL, section 4.4), so
// neither may be in it.
func LocalPath(next, fallback string) string {
	odd := func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsFunc(next, odd) {
		return fallback
	}
	if u, err := url.Parse(next); err != nil || u.IsAbs() || u.Host != "" {
		return fallback
	}
	return next
}
