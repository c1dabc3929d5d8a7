package people_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"

	"davit/gateway/people"
	"davit/internal/secrettest"
	"davit/orchestrator"
	"davit/orchestrator/memstore"
)

const (
	adminToken = secrettest.Mark + "admin-token"
	password   = secrettest.Mark + "password"
	wrong      = secrettest.Mark + "wrong"
	here       = "192.0.2.7:4711"
)

// clock is a clock that only the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// rig is a directory on a store in memory with a clock that only the test moves.
type rig struct {
	*people.Directory
	t     testing.TB
	store *memstore.Store
	clock *clock
	logs  *strings.Builder
}

func cheap() *argon2id.Params {
	return &argon2id.Params{Memory: 8, Iterations: 1, Parallelism: 1, SaltLength: 8, KeyLength: 16}
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, store: memstore.New(), clock: &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, logs: &strings.Builder{}}
	r.reopen(people.DefaultLimits())
	t.Cleanup(func() { r.check() })
	return r
}

// reopen makes the directory anew on the same store, as a restart does.
func (r *rig) reopen(limits people.Limits) {
	r.t.Helper()
	var err error
	r.Directory, err = people.New(people.Options{
		Store: r.store, AdminToken: adminToken, Log: secrettest.New(r.t).Logger(slog.NewTextHandler(r.logs, nil)), Now: r.clock.Now, Hashing: cheap(), Limits: &limits,
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// check is what davit check does, and that no secret has been written.
func (r *rig) check() {
	r.t.Helper()
	err := r.store.View(context.Background(), func(tx orchestrator.Reader) error {
		violations, err := people.Check(tx)
		for _, v := range violations {
			r.t.Error(v)
		}
		return err
	})
	if err != nil {
		r.t.Error(err)
	}
	for _, e := range r.audit() {
		for _, secret := range []string{password, wrong, "argon2id", "davit_", adminToken} {
			if strings.Contains(string(e.Before)+string(e.After)+e.ID, secret) {
				r.t.Errorf("the audit log holds %q: %+v", secret, e)
			}
		}
	}
	if strings.Contains(r.logs.String(), password) || strings.Contains(r.logs.String(), wrong) {
		r.t.Error("the log holds a password")
	}
}

func (r *rig) audit() []orchestrator.AuditEntry {
	r.t.Helper()
	s, err := orchestrator.New(orchestrator.Options{Store: r.store, Blobs: noBlobs{}, Publisher: noPublisher{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	entries, _, err := s.AuditEntries(context.Background(), orchestrator.AuditFilter{}, orchestrator.Page{Limit: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	return entries
}

type (
	noBlobs     struct{ orchestrator.Blobs }
	noPublisher struct{ orchestrator.Publisher }
)

func (r *rig) user(name string, role people.Role) {
	r.t.Helper()
	if _, err := r.CreateUser(r.t.Context(), people.NewUser{Name: name, Role: role, Password: password}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) signIn(name string) people.Session {
	r.t.Helper()
	s, err := r.SignIn(r.t.Context(), name, password, here)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// wants checks the kind of an error.
func (r *rig) wants(err, kind error) {
	r.t.Helper()
	if !errors.Is(err, kind) {
		r.t.Errorf("got %v, want %v", err, kind)
	}
}

func (r *rig) wantsField(err error, field string) {
	r.t.Helper()
	var f *orchestrator.FieldError
	if !errors.As(err, &f) || f.Field != field {
		r.t.Errorf("got %v, want an error about the field %q", err, field)
	}
}

func pointer[T any](v T) *T { return &v }

func TestTheFirstAdminNeedsTheTokenOfTheDataFolder(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	if empty, err := r.Empty(ctx); !empty || err != nil {
		t.Fatalf("empty %v, %v", empty, err)
	}
	n := people.NewUser{Name: "ann", Password: password}
	_, err := r.FirstAdmin(ctx, "not-the-admin-token", n, here)
	r.wantsField(err, "admin_token")
	_, err = r.FirstAdmin(ctx, adminToken, people.NewUser{Name: "ann"}, here)
	r.wantsField(err, "password")
	s, err := r.FirstAdmin(ctx, adminToken, n, here)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := r.Session(ctx, s.Token); err != nil || p.User != "ann" || p.Role != people.RoleAdmin {
		t.Errorf("%+v, %v", p, err)
	}
	if empty, err := r.Empty(ctx); empty || err != nil {
		t.Errorf("empty %v, %v", empty, err)
	}
	n.Name = "eve"
	_, err = r.FirstAdmin(ctx, adminToken, n, here)
	r.wants(err, orchestrator.ErrConflict)
	entries := r.audit()
	if len(entries) != 2 || entries[1].Action != "create" || entries[1].Actor.Name != people.AdminTokenUser || entries[0].Action != "sign-in" ||
		entries[0].Actor.Name != "ann" || entries[0].Actor.Address != here {
		t.Errorf("audit: %+v", entries)
	}
}

func TestSessionsEnd(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.user("ann", people.RoleAdmin)
	r.user("bob", people.RoleOperator)
	for name, end := range map[string]func(people.Session){
		"signed out":       func(s people.Session) { r.wants(r.SignOut(ctx, s.Token), nil) },
		"idle":             func(people.Session) { r.clock.pass(people.SessionIdle) },
		"longest":          func(s people.Session) { r.keepUsing(s, people.SessionLongest) },
		"disabled":         func(people.Session) { r.patch("bob", people.UserPatch{Disabled: pointer(true)}) },
		"new password":     func(people.Session) { r.patch("bob", people.UserPatch{Password: pointer(password)}) },
		"changed password": func(people.Session) { r.wants(r.ChangePassword(ctx, "bob", password, password), nil) },
		"deleted":          func(people.Session) { r.wants(r.DeleteUser(ctx, "bob"), nil) },
	} {
		s := r.signIn("bob")
		if p, err := r.Session(ctx, s.Token); err != nil || p.User != "bob" || p.Role != people.RoleOperator {
			t.Fatalf("%s: %+v, %v", name, p, err)
		}
		end(s)
		_, err := r.Session(ctx, s.Token)
		r.wants(err, people.ErrNoSession)
		if name == "deleted" {
			r.user("bob", people.RoleOperator)
			_, err := r.Session(ctx, s.Token)
			r.wants(err, people.ErrNoSession)
		}
		r.patch("bob", people.UserPatch{Disabled: pointer(false)})
	}
}

// keepUsing uses a session so that it never is idle, for as long as d.
func (r *rig) keepUsing(s people.Session, d time.Duration) {
	r.t.Helper()
	const step = people.SessionIdle - time.Hour
	for left := d; left > 0; left -= step {
		if _, err := r.Session(r.t.Context(), s.Token); err != nil {
			r.t.Fatalf("%v before its end: %v", left, err)
		}
		r.clock.pass(min(step, left))
	}
}

func (r *rig) patch(name string, p people.UserPatch) people.User {
	r.t.Helper()
	u, err := r.UpdateUser(r.t.Context(), name, p)
	if err != nil {
		r.t.Fatal(err)
	}
	return u
}

func TestTheRoleOfASessionIsTheUsersOfNow(t *testing.T) {
	r := newRig(t)
	r.user("ann", people.RoleAdmin)
	r.user("bob", people.RoleAdmin)
	s := r.signIn("bob")
	r.patch("bob", people.UserPatch{Role: pointer(people.RoleViewer)})
	if p, err := r.Session(t.Context(), s.Token); err != nil || p.Role != people.RoleViewer || p.Allowed("create-job") {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestAUserHasFiftySessionsAtMostAndOldOnesAreSwept(t *testing.T) {
	r := newRig(t)
	r.reopen(people.Limits{PerAddress: 1e9, Burst: 1000, Overall: 1e9, OverallBurst: 1000})
	r.user("ann", people.RoleAdmin)
	first := r.signIn("ann")
	for range 50 {
		r.clock.pass(time.Second)
		r.signIn("ann")
	}
	_, err := r.Session(t.Context(), first.Token)
	r.wants(err, people.ErrNoSession)
	if n := r.count("sessions"); n != 50 {
		t.Errorf("%d sessions", n)
	}
	r.clock.pass(people.SessionIdle)
	for range 5 {
		r.signIn("ann")
	}
	if n := r.count("sessions"); n != 5 {
		t.Errorf("%d sessions after the others have ended", n)
	}
}

func (r *rig) count(table orchestrator.Table) int {
	r.t.Helper()
	n := 0
	if err := r.store.View(context.Background(), func(tx orchestrator.Reader) error {
		return tx.Scan(table, nil, nil, func(_, _ []byte) bool { n++; return true })
	}); err != nil {
		r.t.Fatal(err)
	}
	return n
}

func TestNoSecretIsInTheStore(t *testing.T) {
	r := newRig(t)
	r.user("ann", people.RoleAdmin)
	s := r.signIn("ann")
	made, err := r.CreateToken(t.Context(), "ann", people.NewToken{Name: "ci"})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []orchestrator.Table{"users", "sessions", "tokens", "tokens_by_hash", "audit", "sessions_by_time"} {
		if err := r.store.View(t.Context(), func(tx orchestrator.Reader) error {
			return tx.Scan(table, nil, nil, func(k, v []byte) bool {
				for _, secret := range []string{s.Token, made.Secret, password, adminToken} {
					if strings.Contains(string(k)+string(v), secret) {
						t.Errorf("table %s holds a secret: %q %q", table, k, v)
					}
				}
				return true
			})
		}); err != nil {
			t.Fatal(err)
		}
	}
}
