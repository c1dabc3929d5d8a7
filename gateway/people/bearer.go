package people

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"davit/internal/clock"
	"davit/internal/logevent"
	"davit/orchestrator"
)

// Bearer returns who an API token is of: a token that was created here, or the one of
// the data folder. ErrNoSession if it is not good.
func (d *Directory) Bearer(ctx context.Context, token string) (Principal, error) {
	p, stale, err := d.bearer(ctx, token)
	if err != nil || !stale {
		return p, err
	}
	err = d.store.Update(ctx, func(w orchestrator.Writer) error {
		was, _, err := d.valid(w, []byte(secretHash(token)))
		if err != nil {
			return err
		}
		t := *was
		t.UsedAt = d.now().Truncate(time.Hour)
		return put(w, was, &t)
	})
	if errors.Is(err, ErrNoSession) || ctx.Err() != nil {
		return Principal{}, err
	}
	if err != nil {
		d.log.Error("the use of a token was not written down", "event", logevent.UseNotWritten, "principal", p.User, "token", p.Token, "error", err)
	}
	return p, nil
}

// PeekBearer is Bearer for a request that goes on for long and asks again: it does not
// count as a use.
func (d *Directory) PeekBearer(ctx context.Context, token string) (Principal, error) {
	p, _, err := d.bearer(ctx, token)
	return p, err
}

// bearer returns who a token is of, and whether its use is to be written down.
func (d *Directory) bearer(ctx context.Context, token string) (p Principal, stale bool, err error) {
	if d.isAdminToken(token) {
		return adminTokenPrincipal(), false, nil
	}
	if !strings.HasPrefix(token, tokenPrefix) {
		return Principal{}, false, fmt.Errorf("%w: there is no such token", ErrNoSession)
	}
	err = d.store.View(ctx, func(r orchestrator.Reader) error {
		t, u, err := d.valid(r, []byte(secretHash(token)))
		if err != nil {
			return err
		}
		p = u.principal()
		p.Token, p.TokenName = t.ID, t.Name
		p.Restricted, p.Scopes = len(t.Scopes) > 0, t.Scopes
		stale = !t.UsedAt.Equal(d.now().Truncate(time.Hour))
		return nil
	})
	return p, stale, err
}

// valid returns a token that has not expired, and its owner, who may sign in.
func (d *Directory) valid(r orchestrator.Reader, hash []byte) (*tokenRecord, *userRecord, error) {
	t, err := findBy[tokenRecord](r, indexTokenByHash, hash)
	if err != nil {
		return nil, nil, err
	}
	if t == nil {
		return nil, nil, fmt.Errorf("%w: there is no such token", ErrNoSession)
	}
	switch now := d.now(); {
	case !t.over(now):
	case clock.ToCome(t.CreatedAt, now):
		return nil, nil, fmt.Errorf("%w: the token %q was made at %s, which is still to come by the service's clock; set the clock, or if it was ahead then, make another token", ErrNoSession, t.Name, t.CreatedAt.Format(time.RFC3339))
	default:
		return nil, nil, fmt.Errorf("%w: the token %q has expired on %s", ErrNoSession, t.Name, t.ExpiresAt.Format(time.DateOnly))
	}
	u, err := find[userRecord](r, []byte(t.User))
	if err != nil {
		return nil, nil, err
	}
	if u == nil || u.Disabled {
		return nil, nil, fmt.Errorf("%w: the token's owner may not sign in", ErrNoSession)
	}
	return t, u, nil
}

func adminTokenPrincipal() Principal {
	return Principal{User: AdminTokenUser, DisplayName: AdminTokenUser, Role: RoleAdmin, Token: AdminTokenUser}
}
