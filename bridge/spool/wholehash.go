package spool

import (
	"crypto/sha256"
	"hash"
	"sync"
)

const (
	// worthASecondCore is from how many bytes on the hash of the whole image is reckoned beside
	// what else is done with them: it takes many times what it takes to hand them over.
	worthASecondCore = 16 << 10
	// hashBehind is how many bytes that hash may be behind. Who brings more waits.
	hashBehind = 1 << 20
)

// wholeHash is the SHA-256 of an image while it grows. What is written to it later is hashed in
// order by a goroutine that ends when nothing is left; all other methods wait for that.
type wholeHash struct {
	mu      sync.Mutex
	changed sync.Cond // later, behind or running has
	sum     hash.Hash // of nobody but the goroutine while that runs
	later   [][]byte
	behind  int // bytes in later, and those being hashed
	running bool
}

func newWholeHash() *wholeHash {
	w := &wholeHash{sum: sha256.New()}
	w.changed.L = &w.mu
	return w
}

// writeLater adds bytes that nobody changes any more.
func (w *wholeHash) writeLater(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.behind >= hashBehind {
		w.changed.Wait()
	}
	w.later = append(w.later, b)
	w.behind += len(b)
	if !w.running {
		w.running = true
		go w.run()
	}
}

func (w *wholeHash) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.later) > 0 {
		parts := w.later
		w.later = nil
		w.mu.Unlock()
		n := 0
		for _, b := range parts {
			w.sum.Write(b)
			n += len(b)
		}
		w.mu.Lock()
		w.behind -= n
		w.changed.Broadcast()
	}
	w.running = false
	w.changed.Broadcast()
}

// idle waits until everything is hashed; mu is held.
func (w *wholeHash) idle() {
	for w.running {
		w.changed.Wait()
	}
}

// write adds bytes that are the caller's again afterwards.
func (w *wholeHash) write(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle()
	w.sum.Write(b)
}

// reset forgets everything.
func (w *wholeHash) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle()
	w.sum.Reset()
}

// end returns the hash of everything.
func (w *wholeHash) end() [sha256.Size]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle()
	return [sha256.Size]byte(w.sum.Sum(nil))
}
