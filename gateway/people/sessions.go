package people

import (
	"context"
	"errors"
	"fmt"
	"time"

	"davit/internal/logevent"
	"davit/orchestrator"
)

// sweepAtOnce is how many sessions and tokens that have ended one sign-in removes;
// it is more than it adds, so they do not pile up.
const sweepAtOnce = 16

// begin starts a session of a user; change adjusts the record as it stands now.
func (d *Directory) begin(ctx context.Context, user *userRecord, address string, change func(*userRecord) error) (Session, error) {
	s := Session{Token: newSecret()}
	err := d.store.Update(ctx, func(w orchestrator.Writer) error {
		was, err := find[userRecord](w, user.key())
		if err != nil {
			return err
		}
		if was == nil {
			return ErrSignIn
		}
		now, u := d.now(), *was
		if err := change(&u); err != nil {
			return err
		}
		u.SignedInAt = now
		if err := put(w, was, &u); err != nil {
			return err
		}
		if err := sweep(w, now); err != nil {
			return err
		}
		if err := makeRoom(w, u.Name, now); err != nil {
			return err
		}
		rec := &sessionRecord{Hash: secretHash(s.Token), User: u.Name, CreatedAt: now, UsedAt: now}
		s.Principal, s.ExpiresAt = u.principal(), now.Add(SessionLongest)
		if err := put(w, nil, rec); err != nil {
			return err
		}
		return orchestrator.AppendAudit(as(ctx, s.Principal, address), w, now, actionSignIn, orchestrator.KindUser, u.Name, nil, nil)
	})
	if err != nil {
		return Session{}, err
	}
	return s, nil
}

// sweep removes some of the sessions and tokens that have ended.
func sweep(w orchestrator.Writer, now time.Time) error {
	sessions, err := ended(w, indexSessionByTime, now)
	if err != nil {
		return err
	}
	for _, key := range sessions {
		if err := drop[sessionRecord](w, key); err != nil {
			return err
		}
	}
	tokens, err := ended(w, indexTokenByTime, now.Add(-tokenKept))
	if err != nil {
		return err
	}
	for _, key := range tokens {
		if err := drop[tokenRecord](w, key); err != nil {
			return err
		}
	}
	return nil
}

// ended are keys of some records whose time in an index is over.
func ended(r orchestrator.Reader, index orchestrator.Table, now time.Time) ([][]byte, error) {
	var keys [][]byte
	err := r.Scan(index, nil, nil, func(k, v []byte) bool {
		if timeOf(k).After(now) || len(keys) == sweepAtOnce {
			return false
		}
		keys = append(keys, v)
		return true
	})
	return keys, err
}

// drop removes the record under key, if there is one.
func drop[T any, P record[T]](w orchestrator.Writer, key []byte) error {
	rec, err := find[T, P](w, key)
	if err != nil || rec == nil {
		return err
	}
	return remove(w, rec)
}

// makeRoom ends a user's session that was used the longest ago, if they have as
// many as one may have. One that is over goes before: the sweep does not find those of a clock that was ahead.
func makeRoom(w orchestrator.Writer, user string, now time.Time) error {
	all, err := sessionsOf(w, user)
	if err != nil || len(all) < maxSessions {
		return err
	}
	oldest := all[0]
	for _, s := range all {
		if over := s.over(now); over != oldest.over(now) && over || over == oldest.over(now) && s.UsedAt.Before(oldest.UsedAt) {
			oldest = s
		}
	}
	return remove(w, oldest)
}

func sessionsOf(r orchestrator.Reader, user string) ([]*sessionRecord, error) {
	items, _, err := listed[sessionRecord](r, indexSessionByUser, prefixOf(user), orchestrator.Page{Limit: orchestrator.MaxPageLimit})
	return items, err
}

// endSessions ends all sessions of a user.
func endSessions(w orchestrator.Writer, user string) error {
	all, err := sessionsOf(w, user)
	for _, s := range all {
		if err != nil {
			break
		}
		err = remove(w, s)
	}
	return err
}

// Session returns who a session is of. What it answers is true now: a session ends
// with the very request that disables its user. ErrNoSession if there is none.
func (d *Directory) Session(ctx context.Context, token string) (Principal, error) {
	key := []byte(secretHash(token))
	p, stale, err := d.session(ctx, key)
	if errors.Is(err, errEnded) {
		return p, errors.Join(err, d.store.Update(ctx, func(w orchestrator.Writer) error { return d.forgetEnded(w, key) }))
	}
	if err != nil || !stale {
		return p, err
	}
	err = d.store.Update(ctx, func(w orchestrator.Writer) error {
		was, _, err := d.live(w, key)
		if err != nil {
			return err
		}
		s := *was
		s.UsedAt = d.now()
		return put(w, was, &s)
	})
	if errors.Is(err, ErrNoSession) || ctx.Err() != nil {
		return Principal{}, err
	}
	if err != nil {
		// The session is good; only the note of its use is lost.
		d.log.Error("the use of a session was not written down", "event", logevent.UseNotWritten, "principal", p.User, "error", err)
	}
	return p, nil
}

// PeekSession is Session for a request that goes on for long and asks again: it does
// not count as a use, so a page that is left open does not keep its session alive.
func (d *Directory) PeekSession(ctx context.Context, token string) (Principal, error) {
	p, _, err := d.session(ctx, []byte(secretHash(token)))
	return p, err
}

// session returns who a session is of, and whether its use is to be written down.
func (d *Directory) session(ctx context.Context, key []byte) (p Principal, stale bool, err error) {
	err = d.store.View(ctx, func(r orchestrator.Reader) error {
		s, u, err := d.live(r, key)
		if err != nil {
			return err
		}
		p, stale = u.principal(), d.now().Sub(s.UsedAt) >= sessionTouch
		return nil
	})
	return p, stale, err
}

// errEnded: the record of the session is there, and its time is over.
var errEnded = fmt.Errorf("%w: the session has ended", ErrNoSession)

// forgetEnded removes a session that is over, so that none that was refused is good again when the clock is set back.
func (d *Directory) forgetEnded(w orchestrator.Writer, key []byte) error {
	s, err := find[sessionRecord](w, key)
	if err != nil || s == nil || !s.over(d.now()) {
		return err
	}
	return remove(w, s)
}

// live returns a session that has not ended, and its user, who may sign in.
func (d *Directory) live(r orchestrator.Reader, key []byte) (*sessionRecord, *userRecord, error) {
	s, err := find[sessionRecord](r, key)
	if err != nil {
		return nil, nil, err
	}
	if s == nil {
		return nil, nil, fmt.Errorf("%w: there is no such session", ErrNoSession)
	}
	if s.over(d.now()) {
		return nil, nil, errEnded
	}
	u, err := find[userRecord](r, []byte(s.User))
	if err != nil {
		return nil, nil, err
	}
	if u == nil || u.Disabled {
		return nil, nil, fmt.Errorf("%w: the user may not sign in", ErrNoSession)
	}
	return s, u, nil
}

// SignOut ends a session; one that is not there is no error.
func (d *Directory) SignOut(ctx context.Context, token string) error {
	key := []byte(secretHash(token))
	return d.store.Update(ctx, func(w orchestrator.Writer) error {
		s, err := find[sessionRecord](w, key)
		if err != nil || s == nil {
			return err
		}
		if err := remove(w, s); err != nil {
			return err
		}
		return orchestrator.AppendAudit(ctx, w, d.now(), actionSignOut, orchestrator.KindUser, s.User, nil, nil)
	})
}
