package broker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"davit/internal/clock"
	"davit/internal/logevent"
	"davit/schemas"
)

// pendingLife is how long a password that was asked for is good, if nobody logs in
// with it.
const pendingLife = 24 * time.Hour

// pendingPassword is one that was given away and that nobody has logged in with.
type pendingPassword struct {
	Hash  string    `json:"hash"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
}

func (p *pendingPassword) same(o *pendingPassword) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.Hash == o.Hash && p.Since.Equal(o.Since) && p.Until.Equal(o.Until)
}

// Login is how the password of a principal stands.
type Login struct {
	// Since is when the password was made; zero if that was before it was noted.
	Since time.Time
	// Ordered is since when it is to be changed; zero if it is not.
	Ordered time.Time
	// PendingUntil is until when the one that will take its place can be used; zero
	// without one.
	PendingUntil time.Time
}

// good is the pending password, nil if there is none or its time is over; so too if it has
// longer than any is given, because the clock was set back since, or was ahead.
func (r *record) good(now time.Time) *pendingPassword {
	if r.Pending == nil || !now.Before(r.Pending.Until) || clock.ToCome(r.Pending.Until, now.Add(pendingLife)) {
		return nil
	}
	return r.Pending
}

func (r *record) login(now time.Time) Login {
	l := Login{Since: r.Since.time(), Ordered: r.Ordered.time()}
	if p := r.good(now); p != nil {
		l.PendingUntil = p.Until
	}
	return l
}

// Login says how the password of a principal stands; false if there is no such
// principal.
func (c *Credentials) Login(name string) (Login, bool) {
	e := c.lookup(name)
	if e == nil {
		return Login{}, false
	}
	return e.login(time.Now()), true
}

// Renew gives a principal a password beside the one that it has. Both are good until the
// first login with the new one, which ends the old one and its connections, or until the
// time that is returned, when the new one ends. One that was pending is replaced.
// Connections go on.
func (c *Credentials) Renew(name string) (password string, until time.Time, err error) {
	password, hash, err := newPassword()
	if err != nil {
		return "", time.Time{}, err
	}
	now := time.Now().UTC()
	until = now.Add(pendingLife).Truncate(time.Second)
	err = c.update(func(m map[string]*entry) error {
		old := m[name]
		if old == nil {
			return fmt.Errorf("%w: %q", ErrNoPrincipal, name)
		}
		r := old.record
		r.Pending = &pendingPassword{Hash: hash, Since: now, Until: until}
		m[name] = old.changed(r)
		return nil
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("renew password: %w", err)
	}
	return password, until, nil
}

// take makes the pending password the principal's, on disk before anybody is let in with
// it, and returns the entry; nil if it is another one by now, or the disk does not take it.
func (c *Credentials) take(e *entry, p *pendingPassword) *entry {
	err := c.update(func(m map[string]*entry) error {
		now := m[e.Name]
		switch {
		case now != nil && now.Hash == p.Hash:
			return errUnchanged // by another connection
		case now == nil || now.Pending == nil || now.Pending.Hash != p.Hash:
			return ErrNoPrincipal
		}
		m[e.Name] = newEntry(record{Principal: now.Principal, Hash: p.Hash, Since: instantOf(p.Since)})
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return nil
	}
	return c.lookup(e.Name)
}

// Order notes of principals that their passwords are to be changed, and tells those that
// are connected; what is ordered already stays so. which says whether one is meant. The
// note ends with the first login with another password. It returns how many were noted
// now. Passwords of certificates are nobody's, and stay.
func (c *Credentials) Order(which func(p Principal, l Login) bool) (ordered int, err error) {
	now := time.Now().UTC().Truncate(time.Second)
	var told []string
	err = c.update(func(m map[string]*entry) error {
		told = nil
		for _, name := range slices.Sorted(maps.Keys(m)) {
			e := m[name]
			if e.Ordered != 0 || !which(e.Principal, e.login(now)) {
				continue
			}
			r := e.record
			r.Ordered = instantOf(now)
			m[name] = e.changed(r)
			told = append(told, name)
		}
		if len(told) == 0 {
			return errUnchanged
		}
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return 0, fmt.Errorf("order other passwords: %w", err)
	}
	c.mu.RLock()
	onOrder := c.onOrder
	c.mu.RUnlock()
	if onOrder != nil {
		for _, name := range told {
			onOrder(name)
		}
	}
	return len(told), nil
}

// due says whether the password of a principal is to be changed.
func (c *Credentials) due(name string) bool {
	e := c.lookup(name)
	return e != nil && e.Ordered != 0
}

// rotatedTopic is where a principal is told about its password.
func rotatedTopic(name string) string {
	return schemas.Topic{Device: name, Kind: schemas.KindRotated}.String()
}

// tellDue tells a connection that its password is to be changed, if that is so and it
// logged in with one.
func (b *Broker) tellDue(c *conn) {
	if c.certificate != nil || b.cfg.Credentials == nil || !b.cfg.Credentials.due(c.principal.name) {
		return
	}
	payload, err := schemas.Encode(&schemas.Rotated{V: schemas.Version, Due: true})
	if err != nil { // it is the same payload every time
		b.log.Error("the word about a password cannot be encoded", "event", logevent.BrokerMessageInvalid, "error", err)
		return
	}
	b.answer(c, rotatedTopic(c.principal.name), payload)
}

// ordered tells the connections of a principal that its password is to be changed.
func (b *Broker) ordered(name string) {
	for _, c := range b.sessions.of(name) {
		b.tellDue(c)
	}
}
