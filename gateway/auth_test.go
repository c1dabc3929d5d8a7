package gateway_test

import (
	"github.com/alexedwards/argon2id"
)

// cheapHashing makes sign-ins in tests fast.
func cheapHashing() *argon2id.Params {
	return &argon2id.Params{Memory: 8, Iterations: 1, Parallelism: 1, SaltLength: 8, KeyLength: 16}
}
