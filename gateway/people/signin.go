package people

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"davit/internal/logevent"
	"davit/orchestrator"
)

// maxStrangers is of how many names without a user the failures are remembered, so
// that they seem to be locked like users.
const maxStrangers = 4096

// Actions of the audit log that only this package writes.
const (
	actionSignIn       = "sign-in"
	actionSignOut      = "sign-out"
	actionSignInFailed = "sign-in-failed"
	actionLock         = "lock"
	actionUnlock       = "unlock"
)

// stranger is what is remembered of a name that does not exist.
type stranger struct {
	failures int
	until    time.Time
	last     time.Time
}

// Session is a session that has just begun.
type Session struct {
	// Token is the secret of the session, kept nowhere else.
	Token     string
	Principal Principal
	// ExpiresAt is when the session ends even if it is used.
	ExpiresAt time.Time
}

// SignIn begins a session for a user with a password; address is where the request
// comes from. Errors are ErrSignIn, *LockedError and *TooManyTriesError, and those
// of the store.
func (d *Directory) SignIn(ctx context.Context, name, password, address string) (s Session, err error) {
	defer func() { d.told(MethodPassword, resultOf(err)) }()
	if err := d.limit.allow(address, d.now()); err != nil {
		return Session{}, err
	}
	user, renewed, err := d.authenticate(ctx, name, password, address)
	if err != nil {
		return Session{}, err
	}
	return d.begin(ctx, user, address, func(u *userRecord) error {
		if u.Disabled || u.Hash != user.Hash {
			return ErrSignIn // changed while the password was compared
		}
		if renewed != "" {
			u.Hash = renewed
		}
		u.cameHome(address, d.now())
		return nil
	})
}

// authenticate finds the user whom name and password belong to. Every refusal takes
// the same steps, whether or not there is such a user: one comparison and one
// write.
func (d *Directory) authenticate(ctx context.Context, name, password, address string) (*userRecord, string, error) {
	var user *userRecord
	err := d.store.View(ctx, func(r orchestrator.Reader) (err error) {
		user, err = findBy[userRecord](r, indexUserByFold, []byte(fold(name)))
		return err
	})
	if err != nil {
		return nil, "", err
	}
	if until := d.lockedUntil(name, user, address); !until.IsZero() {
		return nil, "", &LockedError{until}
	}
	hash := ""
	if user != nil && !user.Disabled {
		hash = user.Hash
	}
	match, renewed := false, ""
	if len(password) <= MaxPassword {
		if match, renewed, err = d.hasher.matches(ctx, password, hash); err != nil {
			return nil, "", err
		}
	}
	if match {
		return user, renewed, nil
	}
	d.log.Info("sign-in failed", "event", logevent.SignInFailed, "known", user != nil, "remote", address)
	if user == nil {
		return nil, "", d.strangerFailed(ctx, name)
	}
	return nil, "", d.failed(ctx, user.Name, address)
}

// lockedUntil is until when a name is locked for an address; the zero time if it is not.
func (d *Directory) lockedUntil(name string, user *userRecord, address string) time.Time {
	if user != nil {
		failures, until := user.lock(address)
		return lockedAt(*failures, *until, d.now())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.strangers[secretHash(fold(name))]; s != nil {
		return lockedAt(s.failures, s.until, d.now())
	}
	return time.Time{}
}

// failed counts a wrong password and returns what to answer.
func (d *Directory) failed(ctx context.Context, name, address string) error {
	answer := ErrSignIn
	err := d.store.Update(ctx, func(w orchestrator.Writer) error {
		answer = ErrSignIn
		was, err := find[userRecord](w, []byte(name))
		if err != nil || was == nil {
			return err
		}
		now, u := d.now(), *was
		u.Homes = slices.Clone(was.Homes)
		failures, until := u.lock(address)
		*failures++
		ctx := as(ctx, Principal{User: AnonymousUser}, address)
		if lock := lockFor(*failures); lock > 0 {
			*until = now.Add(lock)
			answer = &LockedError{*until}
			if err := orchestrator.AppendAudit(ctx, w, now, actionLock, orchestrator.KindUser, u.Name, nil, lockedNote{*failures, *until}); err != nil {
				return err
			}
		} else if err := orchestrator.AppendAudit(ctx, w, now, actionSignInFailed, orchestrator.KindUser, u.Name, nil, nil); err != nil {
			return err
		}
		return put(w, was, &u)
	})
	if err != nil {
		return err
	}
	var locked *LockedError
	if errors.As(answer, &locked) {
		d.log.Warn("a user is locked after too many wrong passwords", "event", logevent.UserLocked, slog.String("principal", name), slog.Time("until", locked.Until), slog.String("remote", address))
	}
	return answer
}

// lockedNote is what the audit log has of a lock.
type lockedNote struct {
	Failures int       `json:"failures"`
	Until    time.Time `json:"locked_until"`
}

// strangerFailed counts a try under a name that does not exist. The name goes
// nowhere: it may be a password in the wrong field.
func (d *Directory) strangerFailed(ctx context.Context, name string) error {
	now := d.now()
	err := d.store.Update(ctx, func(w orchestrator.Writer) error {
		was, err := find[strangersRecord](w, []byte(strangersKey))
		if err != nil {
			return err
		}
		rec := strangersRecord{Tries: 1, Last: now}
		if was != nil {
			rec.Tries += was.Tries
		}
		return put(w, was, &rec)
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	key := secretHash(fold(name))
	s := d.strangers[key]
	if s == nil {
		if len(d.strangers) >= maxStrangers {
			d.forgetStranger()
		}
		s = &stranger{}
		d.strangers[key] = s
	}
	s.failures++
	s.last = now
	if lock := lockFor(s.failures); lock > 0 {
		s.until = now.Add(lock)
		return &LockedError{s.until}
	}
	return ErrSignIn
}

// forgetStranger forgets the name that was tried the longest ago.
func (d *Directory) forgetStranger() {
	oldest := ""
	for key, s := range d.strangers {
		if oldest == "" || s.last.Before(d.strangers[oldest].last) {
			oldest = key
		}
	}
	delete(d.strangers, oldest)
}

// FirstAdmin makes the first user, an admin, and signs them in. It takes the token of
// the data folder's admin.token, which proves that whoever asks runs the server.
func (d *Directory) FirstAdmin(ctx context.Context, adminToken string, n NewUser, address string) (Session, error) {
	if err := d.limit.allow(address, d.now()); err != nil {
		return Session{}, err
	}
	if !d.isAdminToken(adminToken) {
		return Session{}, orchestrator.InvalidField("admin_token", "this is not what the file admin.token in the server's data folder holds")
	}
	n.Role = RoleAdmin
	if n.Password == "" {
		return Session{}, checkPassword("password", n.Name, n.Password)
	}
	ctx = as(ctx, adminTokenPrincipal(), address)
	user, err := d.createUser(ctx, n, func(w orchestrator.Writer) error {
		var empty bool
		if err := noUsers(w, &empty); err != nil {
			return err
		}
		if !empty {
			return errNotFirst
		}
		return nil
	})
	if err != nil {
		return Session{}, err
	}
	return d.begin(ctx, user, address, func(u *userRecord) error { u.cameHome(address, d.now()); return nil })
}
