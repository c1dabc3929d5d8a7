// Package orchestrator owns image types, device types, images, devices,
// groups, jobs and executions: the pure rules (Step), the records and their
// indexes, the service that people and devices talk to, and the streamer. It
// consumes Store, Blobs and Publisher and knows nothing of MQTT, HTTP, bbolt or
// (outside metrics.go) Prometheus.
//
// The truth is in the store. Every call that changes something is one
// transaction, or for what is asked of a job several of bounded size (jobwork.go):
// it loads the aggregate concerned, applies Step, writes the records with all of
// their index entries, and only after the commit performs the effects. Effects
// may be repeated, and those that must not be lost leave a mark in the store (the
// offer topics in use, the work left of a job), from which Run goes on after a
// crash. "davit check" (Service.Check) verifies all of it.
//
// Goroutines: methods run in their callers'. Run owns the publishers, which
// bring the offer topics of marked devices up to date (outbox.go), one that notes
// what they withdrew (withdrawals.go), the workers of the streamer (streamer.go), one
// for what is shared (sharedsend.go) and
// one that finishes jobs (run.go). What they share is guarded by a mutex each:
// outbox, withdrawals, watch, streamer and blobCache.
package orchestrator
