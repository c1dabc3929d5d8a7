package people

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"davit/internal/clock"
	"davit/orchestrator"
)

// Tables of this package in the service's store. Keys are ids joined by NUL,
// which no id contains; times are eight bytes, MSB first.
const (
	tableUsers    orchestrator.Table = "users"    // name -> JSON
	tableSessions orchestrator.Table = "sessions" // SHA-256 of the token in hex -> JSON
	tableTokens   orchestrator.Table = "tokens"   // id -> JSON
	// tableStrangers has one record: how often somebody tried to sign in under
	// a name that does not exist.
	tableStrangers orchestrator.Table = "sign_in_strangers"

	// Indexes: the value is the key of the record.
	indexUserByFold     orchestrator.Table = "users_by_fold"     // name in lower case
	indexUserByExternal orchestrator.Table = "users_by_external" // issuer and subject
	indexAdmins         orchestrator.Table = "users_admins"      // name of an admin who can sign in
	indexSessionByUser  orchestrator.Table = "sessions_by_user"  // user, session
	indexSessionByTime  orchestrator.Table = "sessions_by_time"  // when it ends, session
	indexTokenByHash    orchestrator.Table = "tokens_by_hash"    // SHA-256 of the secret in hex
	indexTokenByUser    orchestrator.Table = "tokens_by_user"    // user, token
	indexTokenByTime    orchestrator.Table = "tokens_by_time"    // when it ends, token
)

// strangersKey is the key of the only record of tableStrangers.
const strangersKey = "tries"

// Tables are all tables of this package.
func Tables() []orchestrator.Table {
	return append(indexTables(), tableUsers, tableSessions, tableTokens, tableStrangers)
}

func indexTables() []orchestrator.Table {
	return []orchestrator.Table{
		indexUserByFold, indexUserByExternal, indexAdmins, indexSessionByUser, indexSessionByTime,
		indexTokenByHash, indexTokenByUser, indexTokenByTime,
	}
}

// entry is one entry of an index.
type entry struct {
	table      orchestrator.Table
	key, value []byte
}

// record knows its place and every index entry that exists because of it; put,
// remove and Check all go by that.
type record[T any] interface {
	*T
	table() orchestrator.Table
	key() []byte
	entries() []entry
}

// userRecord is a user with what nobody gets to see.
type userRecord struct {
	User
	// Hash of the password in the PHC string format of argon2id, empty without one.
	Hash string `json:"hash,omitempty"`
	// Failures counts the wrong passwords since the last right one, but for those
	// from Homes.
	Failures int `json:"failures,omitempty"`
	// Homes are the networks from which the user has signed in with a password.
	Homes []home `json:"homes,omitempty"`
}

// canSignIn says whether there is a way for the user to sign in.
func (u *userRecord) canSignIn() bool { return !u.Disabled && (u.Hash != "" || u.External != "") }

func (u *userRecord) table() orchestrator.Table { return tableUsers }
func (u *userRecord) key() []byte               { return []byte(u.Name) }
func (u *userRecord) entries() []entry {
	es := []entry{{indexUserByFold, []byte(fold(u.Name)), u.key()}}
	if u.External != "" {
		es = append(es, entry{indexUserByExternal, []byte(u.External), u.key()})
	}
	if u.Role == RoleAdmin && u.canSignIn() {
		es = append(es, entry{indexAdmins, u.key(), u.key()})
	}
	return es
}

// sessionRecord is a session of the console; its token is kept nowhere.
type sessionRecord struct {
	Hash      string    `json:"hash"`
	User      string    `json:"user"`
	CreatedAt time.Time `json:"created_at"`
	UsedAt    time.Time `json:"used_at"`
}

// ends is when the session is over unless it is used before.
func (s *sessionRecord) ends() time.Time {
	idle, last := s.UsedAt.Add(SessionIdle), s.CreatedAt.Add(SessionLongest)
	if idle.Before(last) {
		return idle
	}
	return last
}

// over says whether the session has ended. One that was used, or began, when the clock was ahead would go on for as
// long as it was ahead; its user signs in again.
func (s *sessionRecord) over(now time.Time) bool {
	return !now.Before(s.ends()) || clock.ToCome(s.UsedAt, now) || clock.ToCome(s.CreatedAt, now)
}

func (s *sessionRecord) table() orchestrator.Table { return tableSessions }
func (s *sessionRecord) key() []byte               { return []byte(s.Hash) }
func (s *sessionRecord) entries() []entry {
	return []entry{
		{indexSessionByUser, joined(s.User, s.Hash), s.key()},
		{indexSessionByTime, append(timeKey(s.ends()), s.Hash...), s.key()},
	}
}

// tokenRecord is a token with the SHA-256 of its secret.
type tokenRecord struct {
	Token
	Hash string `json:"hash"`
}

// over says whether the token may not be used: it has expired, or the clock is behind its making, so that it would be
// good for longer than it was made for.
func (t *tokenRecord) over(now time.Time) bool {
	return !now.Before(t.ExpiresAt) || clock.ToCome(t.CreatedAt, now)
}

func (t *tokenRecord) table() orchestrator.Table { return tableTokens }
func (t *tokenRecord) key() []byte               { return []byte(t.ID) }
func (t *tokenRecord) entries() []entry {
	return []entry{
		{indexTokenByHash, []byte(t.Hash), t.key()},
		{indexTokenByUser, joined(t.User, t.ID), t.key()},
		{indexTokenByTime, append(timeKey(t.ExpiresAt), t.ID...), t.key()},
	}
}

// strangersRecord counts tries under names that do not exist.
type strangersRecord struct {
	Tries uint64    `json:"tries"`
	Last  time.Time `json:"last"`
}

func (s *strangersRecord) table() orchestrator.Table { return tableStrangers }
func (s *strangersRecord) key() []byte               { return []byte(strangersKey) }
func (s *strangersRecord) entries() []entry          { return nil }

func fold(name string) string       { return strings.ToLower(name) }
func joined(parts ...string) []byte { return []byte(strings.Join(parts, "\x00")) }
func prefixOf(id string) []byte     { return append([]byte(id), 0) }
func timeKey(t time.Time) []byte    { return binary.BigEndian.AppendUint64(nil, uint64(t.UnixNano())) }
func timeOf(key []byte) (t time.Time) {
	if len(key) < 8 {
		return t
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(key[:8])))
}

// decode is strict: a field that is not known is an error.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the JSON value")
	}
	return nil
}

// find returns the record under key, nil if there is none.
func find[T any, P record[T]](r orchestrator.Reader, key []byte) (P, error) {
	rec := P(new(T))
	if len(key) == 0 {
		return nil, nil
	}
	b, err := r.Get(rec.table(), key)
	if err != nil || b == nil {
		return nil, err
	}
	if err := decode(b, rec); err != nil {
		return nil, fmt.Errorf("a record of %s does not decode: %w; run davit check", rec.table(), err)
	}
	return rec, nil
}

// findBy returns the record that an index points to, nil if there is none.
func findBy[T any, P record[T]](r orchestrator.Reader, index orchestrator.Table, key []byte) (P, error) {
	if len(key) == 0 {
		return nil, nil
	}
	at, err := r.Get(index, key)
	if err != nil || at == nil {
		return nil, err
	}
	return find[T, P](r, at)
}

// put writes a record and its index entries; old is what it was, or nil.
func put[T any, P record[T]](w orchestrator.Writer, old, rec P) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode a record of %s: %w", rec.table(), err)
	}
	if err := w.Put(rec.table(), rec.key(), b); err != nil {
		return err
	}
	var before []entry
	if old != nil {
		before = old.entries()
	}
	return reindex(w, before, rec.entries())
}

func remove[T any, P record[T]](w orchestrator.Writer, rec P) error {
	if err := w.Delete(rec.table(), rec.key()); err != nil {
		return err
	}
	return reindex(w, rec.entries(), nil)
}

func reindex(w orchestrator.Writer, before, after []entry) error {
	same := func(e entry) func(entry) bool {
		return func(o entry) bool {
			return o.table == e.table && bytes.Equal(o.key, e.key) && bytes.Equal(o.value, e.value)
		}
	}
	for _, e := range before {
		if slices.ContainsFunc(after, same(e)) {
			continue
		}
		if err := w.Delete(e.table, e.key); err != nil {
			return err
		}
	}
	for _, e := range after {
		if slices.ContainsFunc(before, same(e)) {
			continue
		}
		if err := w.Put(e.table, e.key, e.value); err != nil {
			return err
		}
	}
	return nil
}

// listed reads a part of a listing: every record that an index, or the table
// itself if index is empty, has under prefix after the cursor.
func listed[T any, P record[T]](r orchestrator.Reader, index orchestrator.Table, prefix []byte, p orchestrator.Page) ([]P, string, error) {
	limit := p.Limit
	if limit <= 0 {
		limit = orchestrator.DefaultPageLimit
	}
	limit = min(limit, orchestrator.MaxPageLimit)
	var after []byte
	if p.After != "" {
		after = append(bytes.Clone(prefix), p.After...)
	}
	table := index
	if table == "" {
		table = P(new(T)).table()
	}
	var keys [][]byte
	next := ""
	err := r.Scan(table, prefix, after, func(k, v []byte) bool {
		if len(keys) == limit {
			next = string(keys[limit-1])
			return false
		}
		if index == "" {
			v = k
		}
		keys = append(keys, v)
		return true
	})
	items := make([]P, 0, len(keys))
	for _, k := range keys {
		if err != nil {
			break
		}
		var rec P
		rec, err = find[T, P](r, k)
		if err == nil && rec == nil {
			err = fmt.Errorf("index %s points to a record that does not exist; run davit check", index)
		}
		items = append(items, rec)
	}
	return items, next, err
}
