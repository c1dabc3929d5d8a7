package gateway

import (
	"context"
	"sync"

	"davit/gateway/people"
)

// Slots bound how much of one kind is under way at the same time: in all, and, so that
// nobody keeps out everybody else, for each user. It is safe for concurrent use.
type Slots struct {
	all, each int

	mu    sync.Mutex // guards what follows
	taken int
	by    map[string]int // user -> slots
}

// newSlots are so many slots, of which one user has three quarters at most.
func newSlots(all int) *Slots { return &Slots{all: all, each: all * 3 / 4, by: map[string]int{}} }

// NewUploadSlots are the slots of uploads, which the API and the console share.
func NewUploadSlots() *Slots { return newSlots(maxUploads) }

// Take takes a slot for whoever makes the request of a context, and returns what
// gives it back; false if there is none for them.
func (s *Slots) Take(ctx context.Context) (give func(), ok bool) {
	p, _ := people.PrincipalOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= s.all || s.by[p.User] >= s.each {
		return nil, false
	}
	s.taken++
	s.by[p.User]++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.taken--
		if s.by[p.User]--; s.by[p.User] == 0 {
			delete(s.by, p.User)
		}
	}), true
}
