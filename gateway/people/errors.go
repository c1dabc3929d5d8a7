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
