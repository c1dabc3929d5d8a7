package people

import (
	"context"
	"fmt"
	"net/mail"
	"strings"
	"time"

	"davit/orchestrator"
)

// Limits of what people enter, in bytes.
const (
	maxUserName = 64
	maxDisplay  = 128
	maxMail     = 254 // RFC 5321 section 4.5.3.1.3, without the brackets
)

var errNotFirst = fmt.Errorf("there are users already: %w; sign in, or ask an admin", orchestrator.ErrConflict)

// CreateUser makes a user.
func (d *Directory) CreateUser(ctx context.Context, n NewUser) (User, error) {
	rec, err := d.createUser(ctx, n, func(orchestrator.Writer) error { return nil })
	if err != nil {
		return User{}, err
	}
	return rec.User, nil
}

// createUser makes a user if allowed agrees inside the transaction.
func (d *Directory) createUser(ctx context.Context, n NewUser, allowed func(orchestrator.Writer) error) (*userRecord, error) {
	if err := n.check(); err != nil {
		return nil, err
	}
	hash := ""
	if n.Password != "" {
		var err error
		if hash, err = d.hasher.hash(ctx, n.Password); err != nil {
			return nil, err
		}
	}
	rec := &userRecord{Hash: hash, User: User{
		Name: n.Name, DisplayName: n.DisplayName, Email: n.Email, Role: n.Role, HasPassword: hash != "", Revision: 1,
	}}
	err := d.store.Update(ctx, func(w orchestrator.Writer) error {
		now := d.now()
		if err := orchestrator.Idempotent(ctx, w, now, orchestrator.KindUser, n.Name); err != nil {
			return err
		}
		if err := allowed(w); err != nil {
			return err
		}
		taken, err := findBy[userRecord](w, indexUserByFold, []byte(fold(n.Name)))
		if err != nil {
			return err
		}
		if taken != nil {
			return fmt.Errorf("user %q: %w", taken.Name, orchestrator.ErrExists)
		}
		rec.CreatedAt = now
		if err := put(w, nil, rec); err != nil {
			return err
		}
		return orchestrator.AppendAudit(ctx, w, now, "create", orchestrator.KindUser, rec.Name, nil, rec.User)
	})
	if err != nil {
		return nil, err
	}
	return rec, nil
}

func (n *NewUser) check() error {
	if err := checkName("name", n.Name); err != nil {
		return err
	}
	if err := checkContact(n.DisplayName, n.Email); err != nil {
		return err
	}
	if err := checkRole(n.Role); err != nil {
		return err
	}
	if n.Password == "" {
		return nil
	}
	return checkPassword("password", n.Name, n.Password)
}

// validName says whether a user could have this name.
func validName(name string) bool {
	stranger := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}
	return name != "" && len(name) <= maxUserName && !strings.ContainsFunc(name, stranger) && strings.Trim(name, ".") != ""
}

func checkName(field, name string) error {
	if !validName(name) {
		return orchestrator.InvalidField(field, "it has to be 1 to %d characters of A-Z a-z 0-9 . _ - and not only dots", maxUserName)
	}
	if reserved(name) {
		return orchestrator.InvalidField(field, "%q means something else in the audit log; take another name", name)
	}
	return nil
}

func checkContact(display, email string) error {
	if err := checkLine("display_name", display, maxDisplay); err != nil {
		return err
	}
	if email == "" {
		return nil
	}
	if a, err := mail.ParseAddress(email); err != nil || a.Address != email || len(email) > maxMail {
		return orchestrator.InvalidField("email", "it is not an address such as ann@example.com")
	}
	return nil
}

func checkRole(r Role) error {
	if !r.Valid() {
		return orchestrator.InvalidField("role", "%q is not a role; there are %s", r, names(Roles()))
	}
	return nil
}

func needUser(r orchestrator.Reader, name string) (*userRecord, error) {
	if name == AdminTokenUser {
		return nil, fmt.Errorf("user %q: %w: the admin token is no user; create one first", name, orchestrator.ErrNotFound)
	}
	u, err := find[userRecord](r, []byte(name))
	if err == nil && u == nil {
		err = fmt.Errorf("user %q: %w", name, orchestrator.ErrNotFound)
	}
	return u, err
}

// User returns a user.
func (d *Directory) User(ctx context.Context, name string) (User, error) {
	var u User
	err := d.store.View(ctx, func(r orchestrator.Reader) error {
		rec, err := needUser(r, name)
		if err == nil {
			u = rec.shown(d.now())
		}
		return err
	})
	return u, err
}

// shown is the user as it is told: without a lock that is over.
func (u *userRecord) shown(now time.Time) User {
	user := u.User
	user.LockedUntil = u.latestLock(now)
	return user
}

// Users lists the users by name.
func (d *Directory) Users(ctx context.Context, p orchestrator.Page) ([]User, string, error) {
	var users []User
	var next string
	err := d.store.View(ctx, func(r orchestrator.Reader) error {
		items, cursor, err := listed[userRecord](r, "", nil, p)
		users, next = make([]User, 0, len(items)), cursor
		for _, u := range items {
			if err == nil {
				users = append(users, u.shown(d.now()))
			}
		}
		return err
	})
	return users, next, err
}

// UpdateUser changes what the patch names. A new password and disabling end the
// user's sessions. Nothing may leave the service without an admin who can sign in.
func (d *Directory) UpdateUser(ctx context.Context, name string, p UserPatch) (User, error) {
	hash := ""
	if p.Password != nil {
		if err := checkPassword("password", name, *p.Password); err != nil {
			return User{}, err
		}
		var err error
		if hash, err = d.hasher.hash(ctx, *p.Password); err != nil {
			return User{}, err
		}
	}
	var user User
	err := d.store.Update(ctx, func(w orchestrator.Writer) error {
		now := d.now()
		was, err := needUser(w, name)
		if err != nil {
			return err
		}
		if p.IfRevision != nil && *p.IfRevision != was.Revision {
			return fmt.Errorf("user %q: %w: it is at revision %d and the edit was made on %d; read it again and repeat the edit",
				name, orchestrator.ErrStale, was.Revision, *p.IfRevision)
		}
		u := *was
		if err := p.apply(&u, hash); err != nil {
			return err
		}
		u.Revision++
		if err := saveUser(w, was, &u); err != nil {
			return err
		}
		if hash != "" || u.Disabled {
			if err := endSessions(w, name); err != nil {
				return err
			}
		}
		user = u.shown(now)
		return d.auditUser(ctx, w, now, p, was, &u)
	})
	return user, err
}

// auditUser writes what a patch did; a new password shows as its being set.
func (d *Directory) auditUser(ctx context.Context, w orchestrator.Writer, now time.Time, p UserPatch, was, is *userRecord) error {
	if p.Unlock != nil && *p.Unlock {
		if err := orchestrator.AppendAudit(ctx, w, now, actionUnlock, orchestrator.KindUser, is.Name, nil, nil); err != nil {
			return err
		}
	}
	after := struct {
		User
		PasswordSet bool `json:"password_set,omitempty"`
	}{is.User, p.Password != nil}
	return orchestrator.AppendAudit(ctx, w, now, "update", orchestrator.KindUser, is.Name, was.User, after)
}

func (p *UserPatch) apply(u *userRecord, hash string) error {
	if p.DisplayName != nil {
		u.DisplayName = *p.DisplayName
	}
	if p.Email != nil {
		u.Email = *p.Email
	}
	if err := checkContact(u.DisplayName, u.Email); err != nil {
		return err
	}
	if p.Role != nil {
		if err := checkRole(*p.Role); err != nil {
			return err
		}
		u.Role = *p.Role
	}
	if p.Disabled != nil {
		u.Disabled = *p.Disabled
	}
	if hash != "" {
		if u.External != "" {
			return orchestrator.InvalidField("password", "user %q signs in through OpenID Connect and has no password here", u.Name)
		}
		u.Hash, u.HasPassword = hash, true
	}
	if p.Unlock != nil && *p.Unlock {
		u.unlock()
	}
	if hash != "" {
		u.unlock()
		u.Homes = nil // whoever knew the old password is a stranger again
	}
	return nil
}

// saveUser writes a user, unless that would leave no admin who can sign in.
func saveUser(w orchestrator.Writer, was, is *userRecord) error {
	if err := put(w, was, is); err != nil {
		return err
	}
	return keepsAdmin(w, was, is.Role == RoleAdmin && is.canSignIn())
}

// keepsAdmin refuses to lose the last admin who can sign in; it runs after the write,
// which ends with the transaction.
func keepsAdmin(w orchestrator.Writer, was *userRecord, still bool) error {
	if still || was.Role != RoleAdmin || !was.canSignIn() {
		return nil
	}
	left := false
	if err := w.Scan(indexAdmins, nil, nil, func(_, _ []byte) bool { left = true; return false }); err != nil || left {
		return err
	}
	return fmt.Errorf("user %q is the last admin who can sign in: %w; make somebody else an admin first", was.Name, orchestrator.ErrConflict)
}

// DeleteUser removes a user with all sessions and tokens.
func (d *Directory) DeleteUser(ctx context.Context, name string) error {
	return d.store.Update(ctx, func(w orchestrator.Writer) error {
		u, err := needUser(w, name)
		if err != nil {
			return err
		}
		if err := remove(w, u); err != nil {
			return err
		}
		if err := keepsAdmin(w, u, false); err != nil {
			return err
		}
		if err := endSessions(w, name); err != nil {
			return err
		}
		tokens, err := tokensOf(w, name)
		if err != nil {
			return err
		}
		for _, t := range tokens {
			if err := remove(w, t); err != nil {
				return err
			}
		}
		return orchestrator.AppendAudit(ctx, w, d.now(), "delete", orchestrator.KindUser, name, u.User, nil)
	})
}

// ChangePassword sets the password of a user who knows the old one, and ends all of
// their sessions. A wrong old password counts like one at sign-in.
func (d *Directory) ChangePassword(ctx context.Context, user, old, new string) error {
	if user == AdminTokenUser {
		return fmt.Errorf("%w: the token of the data folder, %s, is no user and has no password; to change yours, use a token of your own; "+
			"with this one an admin sets anybody's: davit user change NAME --password, or PATCH /v1/users/NAME", orchestrator.ErrConflict, AdminTokenUser)
	}
	if err := checkPassword("new", user, new); err != nil {
		return err
	}
	var was *userRecord
	err := d.store.View(ctx, func(r orchestrator.Reader) (err error) {
		was, err = needUser(r, user)
		return err
	})
	if err != nil {
		return err
	}
	if was.Hash == "" {
		return fmt.Errorf("user %q has no password: %w; an admin can set one, unless the user signs in through OpenID Connect", user, orchestrator.ErrConflict)
	}
	address := orchestrator.ActorOf(ctx).Address
	if err := d.limit.allow(address, d.now()); err != nil {
		return err
	}
	checked, _, err := d.authenticate(ctx, user, old, address)
	if err != nil {
		return err
	}
	hash, err := d.hasher.hash(ctx, new)
	if err != nil {
		return err
	}
	return d.store.Update(ctx, func(w orchestrator.Writer) error {
		was, err := needUser(w, user)
		if err != nil {
			return err
		}
		if was.Hash != checked.Hash || was.Disabled {
			return ErrSignIn
		}
		u := *was
		u.Hash = hash
		u.unlock()
		u.Revision++
		if err := put(w, was, &u); err != nil {
			return err
		}
		if err := endSessions(w, user); err != nil {
			return err
		}
		return d.auditUser(ctx, w, d.now(), UserPatch{Password: &new}, was, &u)
	})
}
