package people_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"davit/gateway/people"
	"davit/orchestrator"
)

// boundless limits let a test try as often as it likes.
func boundless() people.Limits {
	return people.Limits{PerAddress: 1e9, Burst: 1e6, Overall: 1e9, OverallBurst: 1e6}
}

// until returns how long a user is locked from now on, 0 if the error is another.
func (r *rig) until(err error) time.Duration {
	r.t.Helper()
	var locked *people.LockedError
	if !errors.As(err, &locked) {
		return 0
	}
	return locked.Until.Sub(r.clock.Now())
}

func TestWrongPasswordsLockLongerAndLonger(t *testing.T) {
	for _, c := range []struct{ name, user string }{{"a user", "bob"}, {"nobody", "nobody"}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.reopen(boundless())
			r.user("ann", people.RoleAdmin)
			r.user("bob", people.RoleViewer)
			try := func(password string) error {
				_, err := r.SignIn(t.Context(), c.user, password, here)
				return err
			}
			for range 4 {
				if err := try(wrong); !errors.Is(err, people.ErrSignIn) {
					t.Fatal(err)
				}
			}
			for _, minutes := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
				want := time.Duration(minutes) * time.Minute
				if got := r.until(try(wrong)); got != want {
					t.Fatalf("locked for %v, want %v", got, want)
				}
				if c.user == "bob" { // a restart changes nothing
					r.reopen(boundless())
				}
				r.clock.pass(want - time.Second)
				if got := r.until(try(password)); got != time.Second {
					t.Fatalf("a try while locked: %v, want a second left", got)
				}
				r.clock.pass(time.Second)
			}
			if c.user != "bob" {
				return
			}
			if err := try(password); err != nil {
				t.Fatal(err)
			}
			if err := try(wrong); !errors.Is(err, people.ErrSignIn) {
				t.Errorf("after a right password: %v, want to count anew", err)
			}
		})
	}
}

// TestAStrangerDoesNotKeepAUserOut: wrong passwords from elsewhere lock elsewhere, and
// not where the user has signed in before; there, wrong ones from there do.
func TestAStrangerDoesNotKeepAUserOut(t *testing.T) {
	const elsewhere, third = "203.0.113.5:1", "[2001:db8::1]:1"
	r := newRig(t)
	ctx := t.Context()
	r.user("ann", people.RoleAdmin)
	signIn := func(password, from string) error {
		r.reopen(people.DefaultLimits()) // a restart forgets no lock; nor do the limits of tries play a part here
		_, err := r.SignIn(ctx, "ann", password, from)
		return err
	}
	r.wants(signIn(password, here), nil)
	for range 20 { // for days
		err := signIn(wrong, elsewhere)
		r.clock.pass(r.until(err))
	}
	if r.until(signIn(wrong, elsewhere)) == 0 || r.until(signIn(password, elsewhere)) == 0 || r.until(signIn(password, third)) == 0 {
		t.Error("who is guessing, or comes from where nobody knows, is not locked out")
	}
	r.wants(signIn(password, here), nil)
	if left := r.until(signIn(password, elsewhere)); left < 59*time.Minute {
		t.Errorf("that the user has signed in begins the stranger's count anew: %v", left)
	}
	if u, err := r.User(ctx, "ann"); err != nil || u.LockedUntil.IsZero() {
		t.Errorf("the lock does not show: %+v, %v", u, err)
	}
	for range 4 {
		r.wants(signIn(wrong, here), people.ErrSignIn)
	}
	if r.until(signIn(wrong, here)) == 0 || r.until(signIn(password, here)) == 0 {
		t.Error("wrong passwords from the user's own network do not lock there")
	}
	if u := r.patch("ann", people.UserPatch{Unlock: pointer(true)}); !u.LockedUntil.IsZero() {
		t.Errorf("unlocked: %+v", u)
	}
	r.wants(signIn(password, here), nil)
	r.wants(signIn(password, elsewhere), nil)

	// A new password makes whoever knew the old one a stranger again.
	const renewed = "another battery horse"
	r.patch("ann", people.UserPatch{Password: pointer(renewed)})
	for range 5 {
		_ = signIn(wrong, third)
	}
	if r.until(signIn(renewed, elsewhere)) == 0 {
		t.Error("the networks of the old password are still the user's")
	}
}

func TestAnAdminUnlocks(t *testing.T) {
	r := newRig(t)
	r.user("ann", people.RoleAdmin)
	r.user("bob", people.RoleViewer)
	for range 5 {
		_, _ = r.SignIn(t.Context(), "Bob", wrong, here) // the state of the user shows below
	}
	u, err := r.User(t.Context(), "bob")
	if err != nil || u.LockedUntil.IsZero() {
		t.Fatalf("%+v, %v", u, err)
	}
	if u = r.patch("bob", people.UserPatch{Unlock: pointer(true)}); !u.LockedUntil.IsZero() {
		t.Errorf("%+v", u)
	}
	r.signIn("bob")
	var actions []string
	for _, e := range r.audit() {
		actions = append(actions, e.Action)
	}
	if got := strings.Join(actions, " "); got != "sign-in update unlock lock sign-in-failed sign-in-failed sign-in-failed sign-in-failed create create" {
		t.Error(got)
	}
}

func TestNobodyLearnsWhoExists(t *testing.T) {
	r := newRig(t)
	r.user("ann", people.RoleAdmin)
	r.user("bob", people.RoleViewer)
	r.patch("bob", people.UserPatch{Disabled: pointer(true)})
	if _, err := r.CreateUser(t.Context(), people.NewUser{Name: "robot", Role: people.RoleViewer}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, password string }{
		{"ann", wrong}, {"nobody", wrong}, {"bob", password}, {"robot", ""}, {"robot", password}, {"", ""}, {"\x00", password},
		{strings.Repeat("x", 100_000), password}, {people.AdminTokenUser, adminToken}, {"ann", strings.Repeat("x", 100_000)},
	} {
		_, err := r.SignIn(t.Context(), c.name, c.password, here)
		if err == nil || err.Error() != people.ErrSignIn.Error() {
			t.Errorf("%.20q: %v", c.name, err)
		}
	}
	// The name may be a password in the wrong field, so it is kept nowhere.
	_, err := r.SignIn(t.Context(), password, "", here)
	r.wants(err, people.ErrSignIn)
}

func TestTriesAreLimitedByAddressAndOverall(t *testing.T) {
	r := newRig(t)
	r.reopen(people.Limits{PerAddress: 1, Burst: 3, Overall: 1, OverallBurst: 10})
	try := func(address string) error {
		_, err := r.SignIn(t.Context(), "nobody", wrong, address)
		return err
	}
	for i := range 3 {
		// One network of IPv6 is one address, however many hosts it has.
		if err := try(fmt.Sprintf("[2001:db8::%d]:99", i)); !errors.Is(err, people.ErrSignIn) {
			t.Fatal(err)
		}
	}
	var many *people.TooManyTriesError
	if err := try("2001:db8::9"); !errors.As(err, &many) || !errors.Is(err, people.ErrTooManyTries) || many.RetryAfter != time.Second {
		t.Errorf("%v", err)
	}
	if err := try("[2001:db8:0:1::1]:99"); !errors.Is(err, people.ErrSignIn) {
		t.Errorf("another network: %v", err)
	}
	r.clock.pass(time.Second)
	if err := try("2001:db8::9"); errors.Is(err, people.ErrTooManyTries) {
		t.Errorf("after the time that was said: %v", err)
	}
	limited := 0
	for i := range 20 {
		if errors.Is(try(fmt.Sprintf("192.0.2.%d:1", i)), people.ErrTooManyTries) {
			limited++
		}
	}
	if limited < 10 {
		t.Errorf("%d of 20 tries from as many addresses were limited", limited)
	}
}

func TestManyAddressesDoNotUseUpTheMemory(t *testing.T) {
	r := newRig(t)
	r.reopen(people.Limits{PerAddress: 1, Burst: 1, Overall: 1e9, OverallBurst: 1e6})
	limited := 0
	for i := range 10_010 {
		_, err := r.FirstAdmin(t.Context(), wrong, people.NewUser{}, fmt.Sprintf("10.%d.%d.1:1", i>>8, i&255))
		if errors.Is(err, people.ErrTooManyTries) {
			limited++
		}
	}
	if limited != 9 { // those beyond 10,000 share one limit
		t.Errorf("%d were limited", limited)
	}
	r.clock.pass(2 * time.Minute)
	for i := range 10 {
		if _, err := r.FirstAdmin(t.Context(), wrong, people.NewUser{}, fmt.Sprintf("11.0.%d.1:1", i)); errors.Is(err, people.ErrTooManyTries) {
			t.Errorf("address %d after a while: %v", i, err)
		}
	}
}

func TestAWrongOldPasswordLocksToo(t *testing.T) {
	r := newRig(t)
	r.user("ann", people.RoleAdmin)
	for range 4 {
		r.wants(r.ChangePassword(t.Context(), "ann", wrong, "a new password"), people.ErrSignIn)
	}
	if d := r.until(r.ChangePassword(t.Context(), "ann", wrong, "a new password")); d != time.Minute {
		t.Errorf("locked for %v", d)
	}
	r.wantsField(r.ChangePassword(t.Context(), "ann", password, "short"), "new")
	r.wantsField(r.ChangePassword(t.Context(), "ann", password, strings.Repeat("x", 1025)), "new")
}

func TestLastAdmin(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.user("ann", people.RoleAdmin)
	r.user("bob", people.RoleViewer)
	if _, err := r.CreateUser(ctx, people.NewUser{Name: "robot", Role: people.RoleAdmin}); err != nil {
		t.Fatal(err) // an admin who cannot sign in does not count
	}
	lose := func() []error {
		_, demoted := r.UpdateUser(ctx, "ann", people.UserPatch{Role: pointer(people.RoleDeveloper)})
		_, disabled := r.UpdateUser(ctx, "ann", people.UserPatch{Disabled: pointer(true)})
		return []error{demoted, disabled, r.DeleteUser(ctx, "ann")}
	}
	for _, err := range lose() {
		r.wants(err, orchestrator.ErrConflict)
	}
	if u, err := r.User(ctx, "ann"); err != nil || u.Role != people.RoleAdmin || u.Disabled || u.Revision != 1 {
		t.Fatalf("%+v, %v", u, err)
	}
	r.patch("bob", people.UserPatch{Role: pointer(people.RoleAdmin)})
	for _, err := range lose() {
		if err != nil {
			t.Error(err)
		}
	}
}

func TestUsersAreCheckedAndNamesAreUnique(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.user("Ann", people.RoleAdmin)
	for field, users := range map[string][]people.NewUser{
		"name":         {{Name: ""}, {Name: "a b"}, {Name: "system"}, {Name: "Admin.Token"}, {Name: ".."}, {Name: strings.Repeat("x", 65)}, {Name: "\xff"}, {Name: "ä"}},
		"role":         {{Name: "bob"}, {Name: "bob", Role: "root"}},
		"email":        {{Name: "bob", Role: people.RoleViewer, Email: "bob"}, {Name: "bob", Role: people.RoleViewer, Email: "Bob <bob@example.com>"}},
		"display_name": {{Name: "bob", Role: people.RoleViewer, DisplayName: "a\nb"}, {Name: "bob", Role: people.RoleViewer, DisplayName: strings.Repeat("x", 129)}},
		"password": {{Name: "bob", Role: people.RoleViewer, Password: "123456789"}, {Name: "bob", Role: people.RoleViewer, Password: strings.Repeat("x", 1025)},
			{Name: "bob-is-my-name", Role: people.RoleViewer, Password: "Bob-Is-My-Name"}, {Name: "bob", Role: people.RoleViewer, Password: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}},
	} {
		for _, n := range users {
			_, err := r.CreateUser(ctx, n)
			r.wantsField(err, field)
		}
	}
	_, err := r.CreateUser(ctx, people.NewUser{Name: "ann", Role: people.RoleViewer})
	r.wants(err, orchestrator.ErrExists)
	users, next, err := r.Users(ctx, orchestrator.Page{})
	if err != nil || len(users) != 1 || next != "" {
		t.Errorf("%+v %q %v", users, next, err)
	}
}

func TestEditsOfUsersAreBasedOnWhatWasRead(t *testing.T) {
	r := newRig(t)
	r.user("ann", people.RoleAdmin)
	u := r.patch("ann", people.UserPatch{IfRevision: pointer(uint64(1)), Email: pointer("ann@example.com")})
	if u.Revision != 2 || u.Email != "ann@example.com" {
		t.Errorf("%+v", u)
	}
	_, err := r.UpdateUser(t.Context(), "ann", people.UserPatch{IfRevision: pointer(uint64(1)), Email: pointer("")})
	r.wants(err, orchestrator.ErrStale)
	_, err = r.UpdateUser(t.Context(), "nobody", people.UserPatch{})
	r.wants(err, orchestrator.ErrNotFound)
}

func TestAnIdempotencyKeyMakesAUserOnce(t *testing.T) {
	r := newRig(t)
	n := people.NewUser{Name: "ann", Role: people.RoleAdmin, Password: password}
	ctx := orchestrator.WithIdempotency(t.Context(), orchestrator.IdempotencyKey{Key: "k", Fingerprint: "f"})
	if _, err := r.CreateUser(ctx, n); err != nil {
		t.Fatal(err)
	}
	_, err := r.CreateUser(ctx, n)
	if replay, ok := orchestrator.IsReplay(err); !ok || replay.Kind != orchestrator.KindUser || replay.ID != "ann" {
		t.Errorf("%v", err)
	}
}
