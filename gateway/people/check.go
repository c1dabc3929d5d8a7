package people

import (
	"fmt"
	"slices"

	"github.com/alexedwards/argon2id"

	"davit/orchestrator"
)

// Check verifies that every record of this package decodes strictly and stands under
// its own key, that indexes and records agree, and that sessions and tokens have
// their users. It returns a sentence for each violation; an error means that
// it could not be carried out. Nothing secret is in a sentence.
func Check(r orchestrator.Reader) ([]string, error) {
	c := &checker{Reader: r, expected: map[orchestrator.Table]int{}}
	for _, check := range []func() error{
		func() error { return records(c, c.user) },
		func() error {
			return records(c, func(s *sessionRecord) error { return c.userOf("a session", s.User) })
		},
		func() error { return records(c, c.token) },
		func() error { return records(c, func(*strangersRecord) error { return nil }) },
		c.indexes,
	} {
		if err := check(); err != nil {
			return c.violations, err
		}
	}
	return c.violations, nil
}

type checker struct {
	orchestrator.Reader
	violations []string
	expected   map[orchestrator.Table]int
}

func (c *checker) violation(format string, args ...any) {
	if len(c.violations) < orchestrator.MaxViolations {
		c.violations = append(c.violations, fmt.Sprintf(format, args...))
	}
}

// records checks every record of a table and its index entries.
func records[T any, P record[T]](c *checker, check func(P) error) error {
	table := P(new(T)).table()
	var failed error
	n := 0
	err := c.Scan(table, nil, nil, func(k, v []byte) bool {
		n++
		rec := P(new(T))
		if err := decode(v, rec); err != nil {
			c.violation("record %d of %s does not decode: %v", n, table, err)
			return true
		}
		if string(rec.key()) != string(k) {
			c.violation("record %d of %s stands under a key that is not its own", n, table)
		}
		for _, e := range rec.entries() {
			c.expected[e.table]++
			at, err := c.Get(e.table, e.key)
			if err != nil {
				failed = err
				return false
			}
			if string(at) != string(e.value) {
				c.violation("index %s has no entry for record %d of %s, or a wrong one", e.table, n, table)
			}
		}
		failed = check(rec)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

func (c *checker) user(u *userRecord) error {
	if !validName(u.Name) || !u.Role.Valid() || u.Revision == 0 {
		c.violation("user %q has the role %q and revision %d", u.Name, u.Role, u.Revision)
	}
	if u.HasPassword != (u.Hash != "") {
		c.violation("user %q says has_password %v, and the record differs", u.Name, u.HasPassword)
	}
	if u.Hash != "" {
		if _, _, _, err := argon2id.DecodeHash(u.Hash); err != nil {
			c.violation("the password of user %q cannot be checked: %v", u.Name, err)
		}
	}
	if u.External != "" && u.Hash != "" {
		c.violation("user %q has a password and signs in through OpenID Connect", u.Name)
	}
	return nil
}

func (c *checker) token(t *tokenRecord) error {
	for _, s := range t.Scopes {
		if !slices.Contains(Scopes(), s) {
			c.violation("token %q has the scope %q, which does not exist", t.ID, s)
		}
	}
	return c.userOf("token "+t.ID, t.User)
}

func (c *checker) userOf(what, name string) error {
	v, err := c.Get(tableUsers, []byte(name))
	if err == nil && v == nil {
		c.violation("%s is of user %q, who does not exist", what, name)
	}
	return err
}

// indexes checks that indexes hold nothing that no record calls for: every entry that
// is called for was looked up, so a larger number means strangers.
func (c *checker) indexes() error {
	for _, table := range indexTables() {
		n := 0
		if err := c.Scan(table, nil, nil, func(_, _ []byte) bool { n++; return true }); err != nil {
			return err
		}
		if n != c.expected[table] {
			c.violation("index %s has %d entries, the records call for %d", table, n, c.expected[table])
		}
	}
	return nil
}
