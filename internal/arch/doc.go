// Package arch holds the tests of the architecture that ARCHITECTURE.md
// describes: who may import whom, where each vendor's library may be used, that
// every package says what it owns, and that the container files name what the
// program has. It has no code of its own.
package arch
