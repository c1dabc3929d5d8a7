package oidctest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/handler/openid"
	"github.com/ory/fosite/token/jwt"
)

const (
	clientID     = "davit"
	clientSecret = "the secret of the client"
	keyID        = "k1"
)

// provider is an OpenID Connect provider made of ory/fosite, which does the protocol;
// ours are the endpoints' addresses, the storage, and the user who is always signed in.
type provider struct {
	*httptest.Server
	t     *testing.T
	oauth fosite.OAuth2Provider
	key   *ecdsa.PrivateKey

	mu sync.Mutex // guards what follows
	// claims of the user who signs in, beside sub.
	subject string
	claims  map[string]any
	// info is what the user info says beyond the ID token.
	info map[string]any
	// forge changes the ID token's claims before it is signed anew; nil for none.
	forge func(claims map[string]any)
	// signer signs forged tokens; nil means the provider's key.
	signer *ecdsa.PrivateKey
	// discovery changes the discovery document; nil for not.
	discovery func(map[string]any)
	down      bool
}

func newProvider(t *testing.T, redirect string) *provider {
	t.Helper()
	key := newKey(t)
	p := &provider{t: t, key: key, subject: "subject-1", claims: map[string]any{
		"preferred_username": "olga", "name": "Olga O", "email": "olga@example.com", "groups": []string{"staff", "ota-operators"},
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.wellKnown)
	mux.HandleFunc("GET /auth", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /keys", p.keys)
	mux.HandleFunc("GET /userinfo", p.userInfo)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		down := p.down
		p.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	config := &fosite.Config{
		IDTokenIssuer: p.URL, GlobalSecret: []byte("a secret of 32 bytes for the test"), HashCost: 4, EnforcePKCE: true, EnablePKCEPlainChallengeMethod: false,
	}
	hashed, err := (&fosite.BCrypt{Config: config}).Hash(t.Context(), []byte(clientSecret))
	if err != nil {
		t.Fatal(err)
	}
	keyOf := func(context.Context) (any, error) { return key, nil }
	p.oauth = compose.Compose(config, &storage{
		sessions: map[string]fosite.Requester{}, used: map[string]bool{},
		client: &fosite.DefaultClient{
			ID: clientID, Secret: hashed, RedirectURIs: []string{redirect}, ResponseTypes: []string{"code"},
			GrantTypes: []string{"authorization_code"}, Scopes: []string{"openid", "profile", "email"},
		},
	}, &compose.CommonStrategy{
		CoreStrategy:               compose.NewOAuth2HMACStrategy(config),
		OpenIDConnectTokenStrategy: compose.NewOpenIDConnectStrategy(keyOf, config),
		Signer:                     &jwt.DefaultSigner{GetPrivateKey: keyOf},
	}, compose.OAuth2AuthorizeExplicitFactory, compose.OpenIDConnectExplicitFactory, compose.OAuth2PKCEFactory, compose.OAuth2TokenIntrospectionFactory)
	return p
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// set changes the provider between two sign-ins.
func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *provider) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.t.Error(err)
	}
}

func (p *provider) wellKnown(w http.ResponseWriter, _ *http.Request) {
	doc := map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
		"userinfo_endpoint": p.URL + "/userinfo", "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"},
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.discovery != nil {
		p.discovery(doc)
	}
	p.answer(w, doc)
}

func (p *provider) authorize(w http.ResponseWriter, r *http.Request) {
	request, err := p.oauth.NewAuthorizeRequest(r.Context(), r)
	if err != nil {
		p.oauth.WriteAuthorizeError(r.Context(), w, request, err)
		return
	}
	for _, s := range request.GetRequestedScopes() {
		request.GrantScope(s)
	}
	p.mu.Lock()
	session := &openid.DefaultSession{
		Subject: p.subject, Headers: &jwt.Headers{Extra: map[string]any{"kid": keyID}},
		Claims: &jwt.IDTokenClaims{Subject: p.subject, Extra: maps.Clone(p.claims)},
	}
	p.mu.Unlock()
	response, err := p.oauth.NewAuthorizeResponse(r.Context(), request, session)
	if err != nil {
		p.oauth.WriteAuthorizeError(r.Context(), w, request, err)
		return
	}
	p.oauth.WriteAuthorizeResponse(r.Context(), w, request, response)
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	request, err := p.oauth.NewAccessRequest(r.Context(), r, openid.NewDefaultSession())
	if err != nil {
		p.oauth.WriteAccessError(r.Context(), w, request, err)
		return
	}
	response, err := p.oauth.NewAccessResponse(r.Context(), request)
	if err != nil {
		p.oauth.WriteAccessError(r.Context(), w, request, err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.forge != nil {
		response.SetExtra("id_token", p.forged(response.GetExtra("id_token").(string)))
	}
	p.oauth.WriteAccessResponse(r.Context(), w, request, response)
}

// forged changes the claims of a token and signs it anew.
func (p *provider) forged(token string) string {
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	claims := map[string]any{}
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(payload))
		d.UseNumber()
		err = d.Decode(&claims)
	}
	if err != nil {
		p.t.Error(err)
	}
	p.forge(claims)
	key := p.key
	if p.signer != nil {
		key = p.signer
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: keyID}}, nil)
	if err != nil {
		p.t.Error(err)
		return ""
	}
	payload, err = json.Marshal(claims)
	if err != nil {
		p.t.Error(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		p.t.Error(err)
		return ""
	}
	token, err = signed.CompactSerialize()
	if err != nil {
		p.t.Error(err)
	}
	return token
}

func (p *provider) keys(w http.ResponseWriter, _ *http.Request) {
	p.answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: keyID, Algorithm: "ES256", Use: "sig"}}})
}

func (p *provider) userInfo(w http.ResponseWriter, r *http.Request) {
	_, request, err := p.oauth.IntrospectToken(r.Context(), fosite.AccessTokenFromRequest(r), fosite.AccessToken, openid.NewDefaultSession())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	info := map[string]any{"sub": request.GetSession().GetSubject()}
	p.mu.Lock()
	maps.Copy(info, p.info)
	p.mu.Unlock()
	p.answer(w, info)
}

// storage keeps what fosite gives it, in memory. The methods that a flow without
// refresh tokens does not use are those of a nil interface.
type storage struct {
	oauth2.TokenRevocationStorage
	client   fosite.Client
	mu       sync.Mutex
	sessions map[string]fosite.Requester
	used     map[string]bool
}

func (s *storage) put(kind, key string, r fosite.Requester) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[kind+key] = r
	return nil
}

func (s *storage) get(kind, key string) (fosite.Requester, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.sessions[kind+key]
	if !ok {
		return nil, fosite.ErrNotFound
	}
	if s.used[kind+key] {
		return r, fosite.ErrInvalidatedAuthorizeCode
	}
	return r, nil
}

func (s *storage) drop(kind, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, kind+key)
	return nil
}

func (s *storage) GetClient(context.Context, string) (fosite.Client, error) { return s.client, nil }
func (s *storage) ClientAssertionJWTValid(context.Context, string) error    { return nil }
func (s *storage) SetClientAssertionJWT(context.Context, string, time.Time) error {
	return nil
}
func (s *storage) CreateAuthorizeCodeSession(_ context.Context, code string, r fosite.Requester) error {
	return s.put("code ", code, r)
}
func (s *storage) GetAuthorizeCodeSession(_ context.Context, code string, _ fosite.Session) (fosite.Requester, error) {
	return s.get("code ", code)
}
func (s *storage) InvalidateAuthorizeCodeSession(_ context.Context, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used["code "+code] = true
	return nil
}
func (s *storage) CreateAccessTokenSession(_ context.Context, signature string, r fosite.Requester) error {
	return s.put("access ", signature, r)
}
func (s *storage) GetAccessTokenSession(_ context.Context, signature string, _ fosite.Session) (fosite.Requester, error) {
	return s.get("access ", signature)
}
func (s *storage) DeleteAccessTokenSession(_ context.Context, signature string) error {
	return s.drop("access ", signature)
}
func (s *storage) RevokeAccessToken(context.Context, string) error  { return nil }
func (s *storage) RevokeRefreshToken(context.Context, string) error { return nil }
func (s *storage) CreateOpenIDConnectSession(_ context.Context, code string, r fosite.Requester) error {
	return s.put("oidc ", code, r)
}
func (s *storage) GetOpenIDConnectSession(_ context.Context, code string, _ fosite.Requester) (fosite.Requester, error) {
	return s.get("oidc ", code)
}
func (s *storage) DeleteOpenIDConnectSession(_ context.Context, code string) error {
	return s.drop("oidc ", code)
}
func (s *storage) CreatePKCERequestSession(_ context.Context, signature string, r fosite.Requester) error {
	return s.put("pkce ", signature, r)
}
func (s *storage) GetPKCERequestSession(_ context.Context, signature string, _ fosite.Session) (fosite.Requester, error) {
	return s.get("pkce ", signature)
}
func (s *storage) DeletePKCERequestSession(_ context.Context, signature string) error {
	return s.drop("pkce ", signature)
}
