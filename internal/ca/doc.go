// Package ca is a small certificate authority for labs: a folder with one root, the
// index of what it has issued, and its revocation list. It issues client certificates
// for devices and bridges, with their identity as schemas.Identity has it, and server
// certificates. Everything is done offline, each call on the folder alone and under
// its lock; the clock is the caller's. It knows nothing of brokers, and fleets of a
// product have an authority of their own.
//
// The order of writing keeps the folder sound over a crash: the index first, so that
// there is no certificate that it does not know and that nobody could revoke; then
// what follows from it, which the same command writes again.
package ca
