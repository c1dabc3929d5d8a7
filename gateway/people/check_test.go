package people_test

import (
	"bytes"
	"strings"
	"testing"

	"davit/gateway/people"
	"davit/orchestrator"
	"davit/orchestrator/memstore"
)

// TestCheckFindsWhatIsWrong spoils a good store in one place at a time.
func TestCheckFindsWhatIsWrong(t *testing.T) {
	good := newRig(t)
	good.user("ann", people.RoleAdmin)
	good.signIn("ann")
	good.token("ann", people.NewToken{Name: "ci", Scopes: []people.Scope{people.ScopeRead}})
	_, err := good.SignIn(t.Context(), "nobody", wrong, here)
	good.wants(err, people.ErrSignIn)
	replace := func(old, new string) func([]byte) []byte {
		return func(v []byte) []byte { return bytes.Replace(v, []byte(old), []byte(new), 1) }
	}
	gone := func([]byte) []byte { return nil }
	for _, c := range []struct {
		table orchestrator.Table
		spoil func([]byte) []byte // nil deletes
		want  string
	}{
		{"users", replace(`"role"`, `"rule"`), "does not decode"},
		{"users", replace(`{`, `{} {`), "does not decode"},
		{"users", replace(`"admin"`, `"root"`), "root"},
		{"users", replace(`"has_password":true`, `"has_password":false`), "has_password"},
		{"users", replace(`$argon2id$`, `$argon3$`), "cannot be checked"},
		{"users", gone, "does not exist"},
		{"sessions", replace(`"user":"ann"`, `"user":"eve"`), "eve"},
		{"tokens", replace(`["read"]`, `["write"]`), "write"},
		{"tokens", replace(`"id":"tok-`, `"id":"tik-`), "not its own"},
		{"sign_in_strangers", replace(`"tries"`, `"cries"`), "does not decode"},
		{"users_by_fold", gone, "users_by_fold"}, {"users_admins", gone, "users_admins"},
		{"sessions_by_user", gone, "sessions_by_user"}, {"sessions_by_time", gone, "sessions_by_time"},
		{"tokens_by_hash", gone, "tokens_by_hash"}, {"tokens_by_user", gone, "tokens_by_user"}, {"tokens_by_time", gone, "tokens_by_time"},
		{"tokens_by_hash", func([]byte) []byte { return []byte("tok-other") }, "tokens_by_hash"},
		{"sessions", gone, "the records call for 0"},
	} {
		found := spoil(t, good.store.Clone(), c.table, c.spoil)
		if text := strings.Join(found, "\n"); !strings.Contains(text, c.want) {
			t.Errorf("%s spoiled: found %q, want %q", c.table, found, c.want)
		}
	}
}

// spoil changes the first value of a table, or deletes it, and returns what the check
// finds.
func spoil(t *testing.T, store *memstore.Store, table orchestrator.Table, change func([]byte) []byte) []string {
	t.Helper()
	var found []string
	err := store.Update(t.Context(), func(w orchestrator.Writer) error {
		var key, value []byte
		if err := w.Scan(table, nil, nil, func(k, v []byte) bool { key, value = k, v; return false }); err != nil {
			return err
		}
		spoiled := change(value)
		switch {
		case spoiled == nil:
			return w.Delete(table, key)
		case bytes.Equal(spoiled, value):
			t.Errorf("%s: nothing was spoiled in %s", table, value)
		}
		return w.Put(table, key, spoiled)
	})
	if err == nil {
		err = store.View(t.Context(), func(tx orchestrator.Reader) (err error) {
			found, err = people.Check(tx)
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func BenchmarkSession(b *testing.B) {
	r := newRig(b)
	r.user("ann", people.RoleAdmin)
	s := r.signIn("ann")
	for b.Loop() {
		if _, err := r.Session(b.Context(), s.Token); err != nil {
			b.Fatal(err)
		}
	}
}
