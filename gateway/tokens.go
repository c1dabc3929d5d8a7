package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
)

// minTokenLength keeps tokens that could be guessed out.
const minTokenLength = 16

// Tokens are the bearer tokens that the API accepts; all of them are an
// administrator's. Only their SHA-256 is kept: they are long and random, so a
// slow password hash would add nothing. Tokens does not change and is safe for
// concurrent use.
type Tokens struct {
	sums [][sha256.Size]byte
}

// NewTokens accepts the given tokens of at least 16 characters.
func NewTokens(admin ...string) (*Tokens, error) {
	t := &Tokens{}
	for _, token := range admin {
		if len(token) < minTokenLength {
			return nil, fmt.Errorf("an API token needs at least %d characters, this one has %d", minTokenLength, len(token))
		}
		t.sums = append(t.sums, sha256.Sum256([]byte(token)))
	}
	return t, nil
}

// Valid says whether token is one of the accepted ones, in a time that does
// not depend on which, or on how far it agrees.
func (t *Tokens) Valid(token string) bool {
	sum := sha256.Sum256([]byte(token))
	found := 0
	for i := range t.sums {
		found |= subtle.ConstantTimeCompare(sum[:], t.sums[i][:])
	}
	return found == 1
}

// bearer returns the token of an Authorization header (RFC 6750 section 2.1).
func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}
