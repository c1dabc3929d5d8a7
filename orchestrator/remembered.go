package orchestrator

import (
	"bytes"
	"fmt"
	"sync"
)

// remembered keeps records that are read often and rarely change as they were
// decoded, with the bytes that they were decoded from: as long as the store has
// those, nothing has to be decoded again. What it returns is shared and not to be
// changed.
type remembered[T any] struct {
	mu   sync.Mutex
	byID map[string]known[T]
}

type known[T any] struct {
	stored []byte
	rec    *T
}

// maxRemembered is how many records of a kind are remembered at most.
const maxRemembered = 1024

func newRemembered[T any]() *remembered[T] { return &remembered[T]{byID: map[string]known[T]{}} }

// recall is need by way of what is remembered.
func recall[T any, P stored[T]](c *remembered[T], r Reader, what, id string) (*T, error) {
	table := P(new(T)).table()
	b, err := r.Get(table, keyOf(id))
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, fmt.Errorf("%s %q: %w", what, id, ErrNotFound)
	}
	c.mu.Lock()
	k, ok := c.byID[id]
	c.mu.Unlock()
	if ok && bytes.Equal(k.stored, b) {
		return k.rec, nil
	}
	rec := new(T)
	if err := read(b, rec); err != nil {
		return nil, fmt.Errorf("record %s %q does not decode: %w", table, id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byID) >= maxRemembered {
		clear(c.byID)
	}
	c.byID[id] = known[T]{b, rec}
	return rec, nil
}
