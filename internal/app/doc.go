// Package app wires the parts together and owns their lifecycle: the data
// folder's lock, the order in which things start and stop, credentials, the
// Prometheus registry and the logger. It holds no rule of the business; the
// parts do not import it.
//
// A Server or a Bridge is built by its New function, which acquires everything
// that can fail (files, listeners), and then runs its tasks under one errgroup
// until its context ends or a task fails. Clean-up is registered right after
// each acquisition and runs in reverse order, in the goroutine that called Run.
package app
