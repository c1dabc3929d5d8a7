package people

import (
	"context"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"

	"davit/orchestrator"
)

// Limits of passwords, in bytes. The longest is there because hashing reads all of
// it.
const (
	MinPassword = 10
	MaxPassword = 1024
)

// DefaultHashing is what hashing a password costs: argon2id with 32 MiB, three
// passes and one lane, which is more than OWASP's Password Storage Cheat Sheet asks
// for (19 MiB, two passes) and takes some 0.1 to 0.3 seconds.
func DefaultHashing() *argon2id.Params {
	return &argon2id.Params{Memory: 32 << 10, Iterations: 3, Parallelism: 1, SaltLength: 16, KeyLength: 32}
}

const (
	// hashesAtOnce bounds the memory that sign-ins take together, to twice that
	// of one.
	hashesAtOnce = 2
	// hashWait is how long a sign-in waits for its turn.
	hashWait = 5 * time.Second
)

// hasher hashes passwords, a few at a time.
type hasher struct {
	params *argon2id.Params
	slots  chan struct{}
	// dummy is the hash of no password, compared with when there is no user, so
	// that it takes as long.
	dummy func() (string, error)
}

func newHasher(p *argon2id.Params) *hasher {
	return &hasher{params: p, slots: make(chan struct{}, hashesAtOnce), dummy: sync.OnceValues(func() (string, error) {
		return argon2id.CreateHash(newSecret(), p)
	})}
}

// turn waits for a slot and returns what gives it back.
func (h *hasher) turn(ctx context.Context) (func(), error) {
	wait := time.NewTimer(hashWait)
	defer wait.Stop()
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-wait.C:
		return nil, &TooManyTriesError{RetryAfter: hashWait}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	done, err := h.turn(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	hash, err := argon2id.CreateHash(password, h.params)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return hash, nil
}

// matches compares a password with a hash; an empty hash matches nothing and takes
// as long. renewed is the hash anew if the old one was made at another cost.
func (h *hasher) matches(ctx context.Context, password, hash string) (match bool, renewed string, err error) {
	done, err := h.turn(ctx)
	if err != nil {
		return false, "", err
	}
	defer done()
	none := hash == ""
	if none {
		if hash, err = h.dummy(); err != nil {
			return false, "", fmt.Errorf("hash a password: %w", err)
		}
	}
	match, params, err := argon2id.CheckHash(password, hash)
	if err != nil {
		return false, "", fmt.Errorf("compare a password with its hash: %w", err)
	}
	if none || !match {
		return false, "", nil
	}
	if *params != *h.params {
		if renewed, err = argon2id.CreateHash(password, h.params); err != nil {
			return false, "", fmt.Errorf("hash a password: %w", err)
		}
	}
	return true, renewed, nil
}

// checkPassword refuses passwords that are too short, too long, or the name.
func checkPassword(field, name, password string) error {
	switch n := len(password); {
	case n < MinPassword:
		return orchestrator.InvalidField(field, "%d bytes are too short, it needs at least %d; a few words are easy to remember", n, MinPassword)
	case n > MaxPassword:
		return orchestrator.InvalidField(field, "%d bytes are too long, at most %d are allowed", n, MaxPassword)
	case !utf8.ValidString(password):
		return orchestrator.InvalidField(field, "not UTF-8")
	case fold(password) == fold(name):
		return orchestrator.InvalidField(field, "it must not be the user's name")
	}
	return nil
}
