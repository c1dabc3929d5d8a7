package people

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/alexedwards/argon2id"

	"davit/orchestrator"
)

// How long people stay signed in.
const (
	// SessionIdle ends a session that is not used: a working day and its breaks,
	// so that whoever comes back the next morning signs in again.
	SessionIdle = 12 * time.Hour
	// SessionLongest ends every session: a stolen one is worth a week at most.
	SessionLongest = 7 * 24 * time.Hour
	// sessionTouch is how often the use of a session is written down at most;
	// it is small beside SessionIdle and spares a disk write for each request.
	sessionTouch = 5 * time.Minute
	// maxSessions of one user; the one that was used the longest ago ends.
	maxSessions = 50
)

// Options configure a Directory.
type Options struct {
	// Store is where users, sessions and tokens are kept: the service's own.
	Store orchestrator.Store
	// AdminToken is the bearer token of the data folder's admin.token, which
	// acts as the user AdminTokenUser with the role admin; empty for none.
	AdminToken string
	Log        *slog.Logger
	// Now tells the time; nil means time.Now.
	Now func() time.Time
	// Hashing is the cost of hashing a password; nil means DefaultHashing.
	// Tests take a cheap one.
	Hashing *argon2id.Params
	// Limits on trying to sign in; nil means DefaultLimits.
	Limits *Limits
	// OnSignIn hears of every try to sign in; nil for nobody.
	OnSignIn func(method string, result SignInResult)
}

// AdminTokenUser is the name under which the token of the data folder acts.
const AdminTokenUser = "admin.token"

// AnonymousUser is the name in the audit log of those who have not signed in.
const AnonymousUser = "anonymous"

// reserved names cannot be given to users: they mean something else in the
// audit log.
func reserved(name string) bool {
	switch fold(name) {
	case AdminTokenUser, AnonymousUser, orchestrator.ActorSystem:
		return true
	}
	return false
}

// Directory keeps users, sessions and tokens. It is safe for concurrent use.
type Directory struct {
	store  orchestrator.Store
	log    *slog.Logger
	now    func() time.Time
	admin  [sha256.Size]byte
	hasher *hasher
	limit  *limiter
	told   func(string, SignInResult)

	mu        sync.Mutex // guards strangers
	strangers map[string]*stranger
}

// New returns the directory in a store; it reads nothing yet.
func New(o Options) (*Directory, error) {
	if o.Store == nil || o.Log == nil {
		return nil, errors.New("the directory of people needs Store and Log")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnSignIn == nil {
		o.OnSignIn = func(string, SignInResult) {}
	}
	if o.Hashing == nil {
		o.Hashing = DefaultHashing()
	}
	if o.Limits == nil {
		limits := DefaultLimits()
		o.Limits = &limits
	}
	d := &Directory{
		store: o.Store, log: o.Log, now: func() time.Time { return o.Now().UTC() },
		told: o.OnSignIn, hasher: newHasher(o.Hashing), limit: newLimiter(*o.Limits), strangers: map[string]*stranger{},
	}
	if o.AdminToken == "" {
		o.AdminToken = rand.Text() + rand.Text() // one that nobody knows
	} else if len(o.AdminToken) < minAdminToken {
		return nil, errors.New("the admin token is shorter than 16 characters; delete admin.token to have a new one made")
	}
	d.admin = sha256.Sum256([]byte(o.AdminToken))
	return d, nil
}

// minAdminToken keeps tokens that could be guessed out.
const minAdminToken = 16

func (d *Directory) isAdminToken(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], d.admin[:]) == 1
}

// secretHash is what is kept of a secret. Secrets are long and random, so a slow
// password hash would add nothing.
func secretHash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// newSecret is a secret of 256 bits or a little more.
func newSecret() string { return rand.Text() + rand.Text() }

// Empty says whether there is no user yet.
func (d *Directory) Empty(ctx context.Context) (bool, error) {
	empty := true
	err := d.store.View(ctx, func(r orchestrator.Reader) error {
		return noUsers(r, &empty)
	})
	return empty, err
}

func noUsers(r orchestrator.Reader, empty *bool) error {
	*empty = true
	return r.Scan(tableUsers, nil, nil, func(_, _ []byte) bool { *empty = false; return false })
}

// as is the context in which a user acts who is only just signing in.
func as(ctx context.Context, p Principal, address string) context.Context {
	return orchestrator.WithActor(ctx, p.Actor(address, orchestrator.ActorOf(ctx).Request))
}

// principal of a user.
func (u *userRecord) principal() Principal {
	name := u.DisplayName
	if name == "" {
		name = u.Name
	}
	return Principal{User: u.Name, DisplayName: name, Role: u.Role}
}
