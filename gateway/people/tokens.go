package people

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"davit/orchestrator"
)

// Limits of tokens.
const (
	// TokenDefault is how long a token is valid unless its maker says otherwise.
	TokenDefault = 90 * 24 * time.Hour
	// TokenLongest is the longest that a token can be valid.
	TokenLongest = 365 * 24 * time.Hour
	// MaxTokens that one user may have, expired ones left out.
	MaxTokens = 50
	// tokenKept is how long an expired token stays in the lists, so that its owner
	// sees why something has stopped.
	tokenKept = 7 * 24 * time.Hour
	// maxExpired tokens of one user stay in the lists, the youngest, so that tokens
	// which live for a minute do not pile up.
	maxExpired = 50
	// tokenPrefix makes secrets recognisable, for people and for those who search
	// files for secrets.
	tokenPrefix  = "davit_"
	maxTokenName = 64
)

// CreateToken makes a token of a user. A token that is restricted can only make
// tokens that are restricted to what it may do itself.
func (d *Directory) CreateToken(ctx context.Context, user string, n NewToken) (NewSecret, error) {
	valid, err := n.check(ctx)
	if err != nil {
		return NewSecret{}, err
	}
	made := NewSecret{Secret: tokenPrefix + newSecret()}
	err = d.store.Update(ctx, func(w orchestrator.Writer) error {
		now := d.now()
		id := fmt.Sprintf("tok-%011x%s", now.UnixMilli(), strings.ToLower(rand.Text()[:10]))
		if err := orchestrator.Idempotent(ctx, w, now, orchestrator.KindToken, id); err != nil {
			return err
		}
		owner, err := d.owner(w, user, n.Scopes)
		if err != nil {
			return err
		}
		rec := &tokenRecord{Hash: secretHash(made.Secret), Token: Token{
			ID: id, Name: n.Name, User: owner.Name, Scopes: n.Scopes, ExpiresAt: now.Add(valid), CreatedAt: now,
		}}
		made.Token = rec.Token
		if err := errors.Join(sweep(w, now), forgetExpired(w, owner.Name, now)); err != nil {
			return err
		}
		if err := put(w, nil, rec); err != nil {
			return err
		}
		return orchestrator.AppendAudit(ctx, w, now, "create", orchestrator.KindToken, id, nil, rec.Token)
	})
	if err != nil {
		return NewSecret{}, err
	}
	return made, nil
}

// owner returns the user who is to have one more token with the given scopes.
func (d *Directory) owner(r orchestrator.Reader, user string, scopes []Scope) (*userRecord, error) {
	u, err := needUser(r, user)
	if err != nil {
		return nil, err
	}
	if u.Disabled {
		return nil, fmt.Errorf("user %q is disabled: %w; enable the user first", user, orchestrator.ErrConflict)
	}
	for i, s := range scopes {
		if !u.Role.Has(s) {
			return nil, orchestrator.InvalidField(fmt.Sprintf("scopes/%d", i), "%q has the role %s, which does not have the scope %s", user, u.Role, s)
		}
	}
	all, err := tokensOf(r, user)
	if err != nil {
		return nil, err
	}
	valid := 0
	for _, t := range all {
		if !t.over(d.now()) {
			valid++
		}
	}
	if valid >= MaxTokens {
		return nil, fmt.Errorf("user %q has %d tokens: %w; revoke one that is no longer needed", user, valid, orchestrator.ErrConflict)
	}
	return u, nil
}

// tokensOf are all tokens of a user in the order of their creation.
func tokensOf(r orchestrator.Reader, user string) ([]*tokenRecord, error) {
	var all []*tokenRecord
	page := orchestrator.Page{Limit: orchestrator.MaxPageLimit}
	for {
		items, next, err := listed[tokenRecord](r, indexTokenByUser, prefixOf(user), page)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return all, nil
		}
		page.After = next
	}
}

// forgetExpired removes the oldest of a user's expired tokens, but for maxExpired.
func forgetExpired(w orchestrator.Writer, user string, now time.Time) error {
	all, err := tokensOf(w, user)
	if err != nil {
		return err
	}
	expired := slices.DeleteFunc(all, func(t *tokenRecord) bool { return !t.over(now) })
	for _, t := range expired[:max(0, len(expired)-maxExpired)] {
		if err := remove(w, t); err != nil {
			return err
		}
	}
	return nil
}

// check returns how long the token is to be valid.
func (n *NewToken) check(ctx context.Context) (time.Duration, error) {
	n.Name = strings.TrimSpace(n.Name)
	if n.Name == "" {
		return 0, orchestrator.InvalidField("name", "it is empty; say what the token is for")
	}
	if err := checkLine("name", n.Name, maxTokenName); err != nil {
		return 0, err
	}
	for i, s := range n.Scopes {
		field := fmt.Sprintf("scopes/%d", i)
		if !slices.Contains(Scopes(), s) {
			return 0, orchestrator.InvalidField(field, "%q is not a scope; there are %s", s, names(Scopes()))
		}
		if slices.Contains(n.Scopes[:i], s) {
			return 0, orchestrator.InvalidField(field, "%s stands there twice", s)
		}
	}
	if p, ok := PrincipalOf(ctx); ok && p.Restricted {
		if len(n.Scopes) == 0 {
			return 0, orchestrator.InvalidField("scopes", "made with a token that is restricted to %s, the new one has to be restricted too", names(p.Scopes))
		}
		for i, s := range n.Scopes {
			if !p.May(s) {
				return 0, orchestrator.InvalidField(fmt.Sprintf("scopes/%d", i), "the token that makes this one is restricted to %s", names(p.Scopes))
			}
		}
	}
	if n.Expires == "" {
		return TokenDefault, nil
	}
	valid, err := time.ParseDuration(n.Expires)
	if err != nil {
		return 0, orchestrator.InvalidField("expires", "%q is not a time such as 720h", n.Expires)
	}
	if valid < time.Minute || valid > TokenLongest {
		return 0, orchestrator.InvalidField("expires", "%s is not between a minute and a year (%v)", n.Expires, TokenLongest)
	}
	return valid, nil
}

func names[T ~string](list []T) string {
	text := make([]string, len(list))
	for i, s := range list {
		text[i] = string(s)
	}
	return strings.Join(text, ", ")
}

// checkLine accepts UTF-8 of at most limit bytes without control characters.
func checkLine(field, s string, limit int) error {
	if len(s) > limit {
		return orchestrator.InvalidField(field, "%d bytes, at most %d are allowed", len(s), limit)
	}
	if !utf8.ValidString(s) {
		return orchestrator.InvalidField(field, "not UTF-8")
	}
	if i := strings.IndexFunc(s, unicode.IsControl); i >= 0 {
		return orchestrator.InvalidField(field, "a control character at byte %d", i)
	}
	return nil
}

// Token returns a token of a user, of anybody's if user is empty.
func (d *Directory) Token(ctx context.Context, user, id string) (Token, error) {
	var t Token
	err := d.store.View(ctx, func(r orchestrator.Reader) error {
		rec, err := needToken(r, user, id)
		if err == nil {
			t = rec.Token
		}
		return err
	})
	return t, err
}

// Tokens lists the tokens of a user in the order of their creation; with an empty
// user everybody's.
func (d *Directory) Tokens(ctx context.Context, user string, p orchestrator.Page) ([]Token, string, error) {
	index, prefix := orchestrator.Table(""), []byte(nil)
	if user != "" {
		index, prefix = indexTokenByUser, prefixOf(user)
	}
	var tokens []Token
	var next string
	err := d.store.View(ctx, func(r orchestrator.Reader) error {
		items, cursor, err := listed[tokenRecord](r, index, prefix, p)
		tokens, next = make([]Token, 0, len(items)), cursor
		for _, t := range items {
			if err == nil {
				tokens = append(tokens, t.Token)
			}
		}
		return err
	})
	return tokens, next, err
}

// DeleteToken revokes a token of a user, of anybody's if user is empty.
func (d *Directory) DeleteToken(ctx context.Context, user, id string) error {
	return d.store.Update(ctx, func(w orchestrator.Writer) error {
		t, err := needToken(w, user, id)
		if err != nil {
			return err
		}
		if err := remove(w, t); err != nil {
			return err
		}
		return orchestrator.AppendAudit(ctx, w, d.now(), "delete", orchestrator.KindToken, id, t.Token, nil)
	})
}

func needToken(r orchestrator.Reader, user, id string) (*tokenRecord, error) {
	t, err := find[tokenRecord](r, []byte(id))
	if err == nil && (t == nil || user != "" && t.User != user) {
		err = fmt.Errorf("token %q: %w", id, orchestrator.ErrNotFound)
	}
	return t, err
}
