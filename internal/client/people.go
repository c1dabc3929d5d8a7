package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"davit/orchestrator"
)

// User is somebody who may sign in.
type User struct {
	Name        string    `json:"name"`
	DisplayName string    `json:"display_name,omitempty"`
	Email       string    `json:"email,omitempty"`
	Role        string    `json:"role"`
	Disabled    bool      `json:"disabled,omitempty"`
	HasPassword bool      `json:"has_password"`
	External    string    `json:"external,omitempty"`
	LockedUntil time.Time `json:"locked_until,omitzero"`
	SignedInAt  time.Time `json:"signed_in_at,omitzero"`
	Revision    uint64    `json:"revision"`
	CreatedAt   time.Time `json:"created_at"`
}

// NewUser is a user to be created.
type NewUser struct {
	Name        string `json:"name"`
	DisplayName string `json:"display_name,omitempty"`
	Email       string `json:"email,omitempty"`
	Role        string `json:"role"`
	// Password may be left out: the user then signs in through OpenID Connect only.
	Password string `json:"password,omitempty"`
}

// UserPatch changes what is not nil.
type UserPatch struct {
	orchestrator.Precondition
	DisplayName *string `json:"display_name,omitempty"`
	Email       *string `json:"email,omitempty"`
	Role        *string `json:"role,omitempty"`
	Disabled    *bool   `json:"disabled,omitempty"`
	Password    *string `json:"password,omitempty"`
	Unlock      *bool   `json:"unlock,omitempty"`
}

// Token is an API token, without its secret.
type Token struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	User      string    `json:"user"`
	Scopes    []string  `json:"scopes,omitempty"`
	ExpiresAt time.Time `json:"expires_at"`
	UsedAt    time.Time `json:"used_at,omitzero"`
	CreatedAt time.Time `json:"created_at"`
}

// NewToken is a token to be created.
type NewToken struct {
	Name   string   `json:"name"`
	Scopes []string `json:"scopes,omitempty"`
	// Expires is how long it is valid, for example "720h".
	Expires string `json:"expires,omitempty"`
}

// NewSecret is a token with its secret, which is told this once.
type NewSecret struct {
	Token
	Secret string `json:"secret"`
}

// CreateUser makes a user.
func (c *Client) CreateUser(ctx context.Context, n NewUser) (User, error) {
	return post[User](ctx, c, n, "users")
}

// User returns a user.
func (c *Client) User(ctx context.Context, name string) (User, error) {
	return get[User](ctx, c, "users", name)
}

// Users lists the users.
func (c *Client) Users(ctx context.Context, p orchestrator.Page) ([]User, string, error) {
	return list[User](ctx, c, p, nil, "users")
}

// UpdateUser changes what is not nil.
func (c *Client) UpdateUser(ctx context.Context, name string, p UserPatch) (User, error) {
	return patch[User](ctx, c, p, p.Precondition, "users", name)
}

// DeleteUser removes a user with sessions and tokens.
func (c *Client) DeleteUser(ctx context.Context, name string) error {
	return c.remove(ctx, "users", name)
}

// CreateToken makes a token of a user's, empty for the caller's own.
func (c *Client) CreateToken(ctx context.Context, user string, n NewToken) (NewSecret, error) {
	return call[NewSecret](ctx, c, request{method: http.MethodPost, path: []string{"tokens"}, query: set(url.Values{}, "user", user), body: n})
}

// EverybodysTokens is given to Tokens as the user.
const EverybodysTokens = "*"

// Tokens lists a user's tokens, empty for the caller's own.
func (c *Client) Tokens(ctx context.Context, user string, p orchestrator.Page) ([]Token, string, error) {
	return list[Token](ctx, c, p, set(url.Values{}, "user", user), "tokens")
}

// DeleteToken ends a token: one of the caller's own or, if the caller keeps
// people, anybody's.
func (c *Client) DeleteToken(ctx context.Context, id string) error {
	return c.remove(ctx, "tokens", id)
}

// Me is who the client's token speaks for.
type Me struct {
	User        string `json:"user"`
	DisplayName string `json:"display_name,omitempty"`
	Role        string `json:"role"`
	// Token is the id of the token, TokenName what its owner calls it.
	Token     string `json:"token,omitempty"`
	TokenName string `json:"token_name,omitempty"`
	// Scopes are what it may do.
	Scopes []string `json:"scopes"`
}

// Me says who the client's token speaks for and what it may do.
func (c *Client) Me(ctx context.Context) (Me, error) {
	return get[Me](ctx, c, "me")
}

// ChangePassword changes the caller's own password; other sessions end.
func (c *Client) ChangePassword(ctx context.Context, old, next string) error {
	body := struct {
		Old string `json:"old"`
		New string `json:"new"`
	}{old, next}
	resp, err := c.send(ctx, request{method: http.MethodPost, path: []string{"me", "password"}, body: body})
	if err != nil {
		return err
	}
	drop(resp)
	return nil
}
