package people

import (
	"errors"
	"fmt"
	"time"
)

// Kinds of error of signing in, for errors.Is; the others are the
// orchestrator's.
var (
	// ErrSignIn: no user with this name and password may sign in. It does not
	// say which of the two is wrong.
	ErrSignIn = errors.New("the name or the password is wrong")
	// ErrTooManyTries: signing in is tried too often; see TooManyTriesError.
	ErrTooManyTries = errors.New("too many tries to sign in")
	// ErrNoSession: the session or the token does not exist, has ended, or is
	// of a user who may not sign in.
	ErrNoSession = errors.New("not signed in")
)

// LockedError says that a user is locked after too many wrong passwords.
type LockedError struct{ Until time.Time }

// Error implements error.
func (e *LockedError) Error() string {
	return fmt.Sprintf("locked after too many wrong passwords until %s; an admin can unlock the user before", e.Until.UTC().Format(time.RFC3339))
}

// TooManyTriesError is an ErrTooManyTries that says when to try again.
type TooManyTriesError struct{ RetryAfter time.Duration }

// Error implements error.
func (e *TooManyTriesError) Error() string {
	return fmt.Sprintf("%v; try again in %v", ErrTooManyTries, max(e.RetryAfter.Round(time.Second), time.Second))
}

// Unwrap leads to ErrTooManyTries.
func (e *TooManyTriesError) Unwrap() error { return ErrTooManyTries }

// The methods of signing in.
const (
	MethodPassword = "password"
	MethodOIDC     = "oidc"
)

// SignInResult is how a try to sign in ended.
type SignInResult string

// The results of trying to sign in.
const (
	SignedIn      SignInResult = "ok"
	SignInRefused SignInResult = "refused"
	SignInLocked  SignInResult = "locked"
	SignInLimited SignInResult = "limited"
	SignInError   SignInResult = "error" // the store, or the OpenID Connect provider
)

// SignInResults are all of them.
func SignInResults() []SignInResult {
	return []SignInResult{SignedIn, SignInRefused, SignInLocked, SignInLimited, SignInError}
}

func resultOf(err error) SignInResult {
	var locked *LockedError
	var refused *RefusedError
	switch {
	case err == nil:
		return SignedIn
	case errors.As(err, &locked):
		return SignInLocked
	case errors.Is(err, ErrTooManyTries):
		return SignInLimited
	case errors.Is(err, ErrSignIn), errors.As(err, &refused):
		return SignInRefused
	}
	return SignInError
}
