package broker

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"runtime"
	"sync"
	"time"

	"github.com/alexedwards/argon2id"
)

const (
	// verifyWait is how long a connection waits for its turn to be verified.
	verifyWait = 5 * time.Second
	// maxPassword is the longest password in bytes that is looked at.
	maxPassword = 256
	// maxFailures is how many wrong passwords are remembered.
	maxFailures = 4096
)

// verdict is the outcome of an authentication. The values are metric labels.
type verdict string

const (
	verdictOK       verdict = "ok"
	verdictUnknown  verdict = "unknown_name"
	verdictPassword verdict = "wrong_password"
	verdictMissing  verdict = "no_password"
	verdictBusy     verdict = "busy"
	verdictOff      verdict = "passwords_off"
	verdictIdentity verdict = "identity" // a certificate that stands for nobody, or for somebody else
	verdictShut     verdict = "quarantined"
	verdictClaim    verdict = "claim" // the token of a claim that will not do
)

// digest identifies a name, a password and the stored hash that they were
// checked against, under a key that lives and dies with the process.
type digest [sha256.Size]byte

// verifier checks passwords. Argon2 runs on as many goroutines as there are
// cores, so a storm of connects can take neither more memory nor more time of
// the others than that; and what was right once, or wrong a moment ago, is not
// computed again.
type verifier struct {
	key   [32]byte
	turns chan struct{}
	// compare is argon2id.ComparePasswordAndHash; tests count its calls.
	compare func(password, hash string) (bool, error)

	mu       sync.Mutex
	verified map[string]digest
	failed   map[digest]struct{}
}

func newVerifier() *verifier {
	v := &verifier{
		turns:    make(chan struct{}, max(2, runtime.GOMAXPROCS(0))),
		compare:  argon2id.ComparePasswordAndHash,
		verified: make(map[string]digest),
		failed:   make(map[digest]struct{}),
	}
	// Read never fails: it ends the program if the system has no randomness.
	_, _ = rand.Read(v.key[:])
	return v
}

func (v *verifier) digest(e *entry, password []byte) (d digest) {
	h := hmac.New(sha256.New, v.key[:])
	h.Write([]byte(e.Hash)) // so a new hash makes the old digest worthless
	h.Write([]byte{0})
	h.Write([]byte(e.Name))
	h.Write([]byte{0})
	h.Write(password)
	h.Sum(d[:0])
	return d
}

// known says what is remembered of d, and whether anything is.
func (v *verifier) known(name string, d digest) (right, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if have, ok := v.verified[name]; ok && hmac.Equal(have[:], d[:]) {
		return true, true
	}
	_, wrong := v.failed[d]
	return false, wrong
}

func (v *verifier) remember(name string, d digest, right bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if right {
		v.verified[name] = d
		return
	}
	if len(v.failed) >= maxFailures {
		clear(v.failed)
	}
	v.failed[d] = struct{}{}
}

func (v *verifier) forget(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.verified, name)
}

// check compares password with the entry's hash.
func (v *verifier) check(e *entry, password []byte) verdict {
	d := v.digest(e, password)
	if right, known := v.known(e.Name, d); known {
		return verdictOf(right)
	}
	t := time.NewTimer(verifyWait)
	defer t.Stop()
	select {
	case v.turns <- struct{}{}:
		defer func() { <-v.turns }()
	case <-t.C:
		return verdictBusy
	}
	if right, known := v.known(e.Name, d); known { // while we waited
		return verdictOf(right)
	}
	// The only errors are about the hash's form, which was checked on loading.
	right, err := v.compare(string(password), e.Hash)
	right = right && err == nil
	v.remember(e.Name, d, right)
	return verdictOf(right)
}

func verdictOf(right bool) verdict {
	if right {
		return verdictOK
	}
	return verdictPassword
}

// remembers says whether the password is known to be right without reckoning anything.
func (c *Credentials) remembers(name string, password []byte) bool {
	if c == nil || len(password) > maxPassword {
		return false
	}
	e := c.lookup(name)
	if e == nil {
		return false
	}
	right, _ := c.verifier.known(e.Name, c.verifier.digest(e, password))
	return right
}

// authenticate finds the principal of a user name and password.
func (c *Credentials) authenticate(name string, password []byte) (*principal, verdict) {
	if len(password) == 0 || len(password) > maxPassword {
		return nil, verdictMissing
	}
	e := c.lookup(name)
	if e == nil {
		return nil, verdictUnknown
	}
	v := c.verifier.check(e, password)
	var renewed *pendingPassword
	if p := e.good(time.Now()); v == verdictPassword && p != nil {
		renewed = p
		v = c.verifier.check(&entry{record: record{Principal: e.Principal, Hash: p.Hash}}, password)
	}
	switch {
	case v != verdictOK:
		return nil, v
	case c.shut(e):
		return nil, verdictShut
	case renewed != nil:
		if e = c.take(e, renewed); e == nil {
			return nil, verdictBusy
		}
	case e.Unused:
		if e = c.used(e); e == nil {
			return nil, verdictBusy
		}
	}
	return e.who, verdictOK
}
