package people

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"davit/orchestrator"
)

const (
	disabledText = "The provider knows you, but your user in davit is disabled. Ask an admin."
	// maxExternal bounds issuer and subject, which are the key of an index.
	maxExternal = 1024
)

// externalUser is somebody as the provider describes them.
type externalUser struct {
	external string
	role     Role
	claims   map[string]any
	address  string
}

func (e externalUser) claim(name string) string {
	s, _ := e.claims[name].(string)
	return s
}

// externalUser returns the user whom the provider describes, with the role and the
// name of now; it makes one who is not there, and never takes one by name.
func (d *Directory) externalUser(ctx context.Context, w orchestrator.Writer, e externalUser) (*userRecord, error) {
	was, err := findBy[userRecord](w, indexUserByExternal, []byte(e.external))
	if err != nil {
		return nil, err
	}
	if was != nil && was.Disabled {
		return nil, &RefusedError{disabledText}
	}
	now := d.now()
	if was == nil {
		name, err := d.nameFor(w, e)
		if err != nil {
			return nil, err
		}
		ctx = as(ctx, Principal{User: name, Role: e.role}, e.address)
		u := &userRecord{User: User{Name: name, Role: e.role, External: e.external, Revision: 1, CreatedAt: now}}
		e.describe(u)
		if err := put(w, nil, u); err != nil {
			return nil, err
		}
		return u, orchestrator.AppendAudit(ctx, w, now, "create", orchestrator.KindUser, u.Name, nil, u.User)
	}
	u := *was
	u.Role, u.External = e.role, e.external
	e.describe(&u)
	if u.User == was.User {
		return was, nil
	}
	u.Revision++
	if err := put(w, was, &u); err != nil {
		return nil, err
	}
	ctx = as(ctx, Principal{User: u.Name, Role: e.role}, e.address)
	return &u, orchestrator.AppendAudit(ctx, w, now, "update", orchestrator.KindUser, u.Name, was.User, u.User)
}

// describe takes over what is for people, as far as it is fit to be shown.
func (e externalUser) describe(u *userRecord) {
	if s := e.claim("name"); s != "" {
		u.DisplayName = cut(s, maxDisplay)
	}
	if s := e.claim("email"); checkContact("", s) == nil {
		if _, err := mail.ParseAddress(s); err == nil {
			u.Email = s
		}
	}
}

// cut makes one line of at most limit bytes.
func cut(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	for len(s) > limit {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// nameFor finds a name for somebody new: what the provider calls them, or, if that is
// taken, with something of the subject's hash.
func (d *Directory) nameFor(r orchestrator.Reader, e externalUser) (string, error) {
	wanted := e.claim("preferred_username")
	if wanted == "" {
		wanted, _, _ = strings.Cut(e.claim("email"), "@")
	}
	taken, err := findBy[userRecord](r, indexUserByFold, []byte(fold(wanted)))
	if err != nil {
		return "", err
	}
	fits := validName(wanted) && !reserved(wanted)
	if fits && taken == nil {
		return wanted, nil
	}
	sum := sha256.Sum256([]byte(e.external))
	const tail = 16
	suffix := hex.EncodeToString(sum[:])[:tail]
	base := "user"
	if fits {
		base = wanted[:min(len(wanted), maxUserName-tail-1)]
	}
	return base + "-" + suffix, nil
}
