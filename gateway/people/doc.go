// Package people owns who may do what: users with their roles and passwords,
// sessions of the console, API tokens, sign-in through OpenID Connect, and the
// matrix of operations (operations.go) from which the API, the console, the tests and
// docs/operations.md take what each role may do.
//
// Its records live in the service's store, in tables of its own; what people do
// here is written to the orchestrator's audit log in the same transactions. It
// never decides about firmware, never speaks HTTP but for the OpenID Connect
// exchange, and imports nothing of ours but the orchestrator.
//
// All state is in the store, or behind the mutex of the type that holds it; the
// package starts no goroutine.
package people
