package people

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"davit/orchestrator"
)

// RefusedError says why somebody whom the provider knows does not get in. The text is
// for them.
type RefusedError struct{ Reason string }

// Error implements error.
func (e *RefusedError) Error() string { return e.Reason }

// ProviderError says that the provider does not answer, or not as it should.
type ProviderError struct{ err error }

// Error implements error.
func (e *ProviderError) Error() string { return "OpenID Connect provider: " + e.err.Error() }

// Unwrap leads to the cause.
func (e *ProviderError) Unwrap() error { return e.err }

// FlowLongest is how long somebody may take to sign in at the provider.
const FlowLongest = 10 * time.Minute

// OIDC signs people in through OpenID Connect 1.0 (authorization code flow with PKCE,
// RFC 7636). Users are made and updated at each sign-in; a user is known by issuer
// and subject, never by name. It is safe for concurrent use.
type OIDC struct {
	dir     *Directory
	options OIDCOptions
	client  *http.Client

	mu       sync.Mutex // guards provider, which is found at the first use
	provider *oidc.Provider
}

// NewOIDC prepares signing in; the provider is first asked when somebody signs in, so
// that the service starts without it.
func NewOIDC(d *Directory, o OIDCOptions) (*OIDC, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("OpenID Connect: %w", err)
	}
	if o.Scopes == nil {
		o.Scopes = []string{"profile", "email"}
	}
	return &OIDC{dir: d, options: o, client: providerClient(o.HTTP)}, nil
}

// Close ends idle connections to the provider.
func (o *OIDC) Close() error {
	o.client.CloseIdleConnections()
	return nil
}

// flow is what a browser keeps while its user is at the provider. It is bound to the
// browser by standing in its cookie, and says nothing to whoever does not hold the
// provider's answer too.
type flow struct {
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"`
	Next     string    `json:"p"`
	Ends     time.Time `json:"e"`
}

// Begin returns the provider's address to send the browser to, and what the browser
// has to keep until it comes back. next is the console's path to go on at.
func (o *OIDC) Begin(ctx context.Context, next string) (address, kept string, err error) {
	config, _, err := o.config(ctx)
	if err != nil {
		return "", "", err
	}
	f := flow{State: newSecret(), Nonce: newSecret(), Verifier: oauth2.GenerateVerifier(), Next: next, Ends: o.dir.now().Add(FlowLongest)}
	b, err := json.Marshal(f)
	if err != nil {
		return "", "", fmt.Errorf("begin to sign in: %w", err)
	}
	return config.AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), base64.RawURLEncoding.EncodeToString(b), nil
}

// Finish signs in whom the provider has sent back with query to the browser that kept
// what Begin returned; next is what Begin was given. Errors are *RefusedError and
// *ProviderError, *TooManyTriesError, and those of the store.
func (o *OIDC) Finish(ctx context.Context, query url.Values, kept, address string) (s Session, next string, err error) {
	defer func() { o.dir.told(MethodOIDC, resultOf(err)) }()
	if err := o.dir.limit.allow(address, o.dir.now()); err != nil {
		return Session{}, "", err
	}
	f, err := o.flow(kept, query.Get("state"))
	if err != nil {
		return Session{}, "", err
	}
	if code := query.Get("error"); code != "" {
		return Session{}, "", &RefusedError{fmt.Sprintf("The provider refused: %.64q. Try again, or ask whoever runs the provider.", code)}
	}
	claims, err := o.claims(ctx, f, query.Get("code"))
	if err != nil {
		return Session{}, "", err
	}
	s, err = o.admit(ctx, claims, address)
	return s, f.Next, err
}

// flow reads what the browser kept, and that the answer belongs to it.
func (o *OIDC) flow(kept, state string) (flow, error) {
	var f flow
	b, err := base64.RawURLEncoding.DecodeString(kept)
	if err != nil || kept == "" || json.Unmarshal(b, &f) != nil || f.State == "" || f.Nonce == "" ||
		subtle.ConstantTimeCompare([]byte(f.State), []byte(state)) != 1 {
		return f, &RefusedError{"This sign-in was not begun in this browser, or it was begun twice. Begin again."}
	}
	if !o.dir.now().Before(f.Ends) {
		return f, &RefusedError{"This sign-in has taken too long. Begin again."}
	}
	return f, nil
}

// config asks the provider where its parts are, once.
func (o *OIDC) config(ctx context.Context) (*oauth2.Config, *oidc.Provider, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.provider == nil {
		p, err := oidc.NewProvider(oidc.ClientContext(ctx, o.client), o.options.Issuer)
		if err == nil {
			err = checkEndpoints(p)
		}
		if err != nil {
			return nil, nil, &ProviderError{err}
		}
		o.provider = p
	}
	return &oauth2.Config{
		ClientID: o.options.ClientID, ClientSecret: o.options.ClientSecret, RedirectURL: o.options.RedirectURL,
		Endpoint: o.provider.Endpoint(), Scopes: append([]string{oidc.ScopeOpenID}, o.options.Scopes...),
	}, o.provider, nil
}

// checkEndpoints holds what the provider says of itself to the rule for its issuer.
func checkEndpoints(p *oidc.Provider) error {
	var more struct {
		Keys string `json:"jwks_uri"`
	}
	if err := p.Claims(&more); err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	for what, address := range map[string]string{
		"authorization endpoint": p.Endpoint().AuthURL, "token endpoint": p.Endpoint().TokenURL, "jwks_uri": more.Keys,
	} {
		if err := checkProviderURL(what, address); err != nil {
			return err
		}
	}
	if user := p.UserInfoEndpoint(); user != "" {
		return checkProviderURL("userinfo endpoint", user)
	}
	return nil
}

// claims exchanges the code for an ID token, verifies it, and returns what the provider
// says of the user.
func (o *OIDC) claims(ctx context.Context, f flow, code string) (map[string]any, error) {
	config, provider, err := o.config(ctx)
	if err != nil {
		return nil, err
	}
	ctx = oidc.ClientContext(ctx, o.client)
	tokens, err := config.Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return nil, exchangeError(err)
	}
	raw, _ := tokens.Extra("id_token").(string)
	verified, err := provider.VerifierContext(ctx, &oidc.Config{ClientID: o.options.ClientID, Now: o.dir.now}).Verify(ctx, raw)
	if err != nil {
		return nil, &ProviderError{fmt.Errorf("the ID token is not good: %w", err)}
	}
	claims := map[string]any{}
	if err := verified.Claims(&claims); err != nil {
		return nil, &ProviderError{fmt.Errorf("the ID token is not good: %w", err)}
	}
	// OpenID Connect Core 1.0 section 3.1.3.7: nonce (11), authorized party (4, 5).
	if subtle.ConstantTimeCompare([]byte(verified.Nonce), []byte(f.Nonce)) != 1 {
		return nil, &ProviderError{errors.New("the ID token is not of this sign-in: its nonce is another")}
	}
	if azp, ok := claims["azp"]; (ok || len(verified.Audience) > 1) && azp != o.options.ClientID {
		return nil, &ProviderError{errors.New("the ID token was issued to another client")}
	}
	return claims, o.addUserInfo(ctx, provider, tokens, verified.Subject, claims)
}

// exchangeError tells a refused code from a provider that does not answer.
func exchangeError(err error) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.ErrorCode == "invalid_grant" {
		return &RefusedError{"The provider does not know this sign-in, or it was used before. Begin again."}
	}
	// The answer's body may hold secrets; its code does not.
	if refused != nil && refused.Response != nil {
		return &ProviderError{fmt.Errorf("the token endpoint answers %s, error %.64q", refused.Response.Status, refused.ErrorCode)}
	}
	return &ProviderError{err}
}

// addUserInfo asks for what the ID token does not say, if the role is not in it.
func (o *OIDC) addUserInfo(ctx context.Context, p *oidc.Provider, tokens *oauth2.Token, subject string, claims map[string]any) error {
	if p.UserInfoEndpoint() == "" || o.options.RoleClaim == "" || claimAt(claims, o.options.RoleClaim) != nil {
		return nil
	}
	info, err := p.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
	if err != nil {
		return &ProviderError{fmt.Errorf("user info: %w", err)}
	}
	if info.Subject != subject {
		return &ProviderError{errors.New("the user info is about somebody else")}
	}
	more := map[string]any{}
	if err := info.Claims(&more); err != nil {
		return &ProviderError{fmt.Errorf("user info: %w", err)}
	}
	for name, v := range more {
		if _, ok := claims[name]; !ok {
			claims[name] = v
		}
	}
	return nil
}

// admit makes or updates the user and begins a session.
func (o *OIDC) admit(ctx context.Context, claims map[string]any, address string) (Session, error) {
	subject, _ := claims["sub"].(string)
	external := o.options.Issuer + " " + subject
	if subject == "" || len(external) > maxExternal {
		return Session{}, &ProviderError{errors.New("the ID token names no usable subject")}
	}
	role, ok := o.options.roleOf(claims)
	if !ok {
		return Session{}, &RefusedError{"The provider knows you, but you have no role in davit. Ask an admin to have the claim " + o.options.RoleClaim + " set for you."}
	}
	var user *userRecord
	err := o.dir.store.Update(ctx, func(w orchestrator.Writer) (err error) {
		user, err = o.dir.externalUser(ctx, w, externalUser{external: external, role: role, claims: claims, address: address})
		return err
	})
	if err != nil {
		return Session{}, err
	}
	return o.dir.begin(ctx, user, address, func(u *userRecord) error {
		if u.Disabled || u.External != external {
			return &RefusedError{disabledText}
		}
		return nil
	})
}
