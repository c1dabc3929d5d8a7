package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// IdempotencyKey names a request to create something, so that repeating it
// creates nothing twice.
type IdempotencyKey struct {
	// Key as the caller chose it, made unique to the caller.
	Key string
	// Fingerprint of the request: the same key with another one is refused.
	Fingerprint string
}

// idempotencyKept is how long keys are remembered.
const idempotencyKept = 24 * time.Hour

type idempotencyContext struct{}

// WithIdempotency makes the creation that is called with the context happen
// once: when the key is known, the call ends with a *ReplayedError.
func WithIdempotency(ctx context.Context, k IdempotencyKey) context.Context {
	return context.WithValue(ctx, idempotencyContext{}, k)
}

// ReplayedError says that a request with the same idempotency key made this
// record before, and that nothing was done now.
type ReplayedError struct{ Kind, ID string }

// Error implements error.
func (e *ReplayedError) Error() string {
	return fmt.Sprintf("a request with this idempotency key made %s %q before", e.Kind, e.ID)
}

// idempotencyRecord is what a key made.
type idempotencyRecord struct {
	Key         string    `json:"key"`
	Fingerprint string    `json:"fingerprint"`
	Kind        string    `json:"kind"`
	ID          string    `json:"id"`
	At          time.Time `json:"at"`
}

func (i *idempotencyRecord) table() Table       { return tableIdempotency }
func (i *idempotencyRecord) id() string         { return i.Key }
func (i *idempotencyRecord) counters() []string { return nil }
func (i *idempotencyRecord) entries() []entry {
	return []entry{{indexIdempotencyByTime, append(revKey(uint64(i.At.UnixNano())), i.Key...), keyOf(i.Key)}}
}

// idempotent is the key of a transaction and what the transaction made first.
type idempotent struct {
	key      IdempotencyKey
	kind, id string
}

// made notes the first record that a transaction with a key makes.
func (t *txn) made(table Table, id string) {
	if t.idem == nil || t.idem.kind != "" {
		return
	}
	kind := kindOf(table)
	switch table {
	case tableJobs:
		kind = KindJob
	case tableUploads:
		kind = KindUpload
	}
	t.idem.kind, t.idem.id = kind, id
}

// once makes what the transaction creates happen once for the idempotency key
// of the context, if it has one: every creation begins with it.
func (t *txn) once(ctx context.Context) error {
	k, ok := ctx.Value(idempotencyContext{}).(IdempotencyKey)
	if !ok {
		return nil
	}
	rec, err := find[idempotencyRecord](t, k.Key)
	switch {
	case err != nil:
		return err
	case rec == nil || t.now.Sub(rec.At) > idempotencyKept:
		t.idem = &idempotent{key: k}
		return nil
	case rec.Fingerprint != k.Fingerprint:
		return invalid("this idempotency key was used for another request, which made %s %q; take a new key for a new request", rec.Kind, rec.ID)
	}
	return &ReplayedError{rec.Kind, rec.ID}
}

// flushIdempotency keeps what the key made, and forgets a few keys that are
// out of date.
func (t *txn) flushIdempotency() error {
	if t.idem == nil || t.idem.kind == "" {
		return nil
	}
	rec := &idempotencyRecord{Key: t.idem.key.Key, Fingerprint: t.idem.key.Fingerprint, Kind: t.idem.kind, ID: t.idem.id, At: t.now}
	t.idem = nil
	const atATime = 8
	var old []string
	if err := t.Scan(indexIdempotencyByTime, nil, nil, func(k, v []byte) bool {
		at := time.Unix(0, int64(numberOf(k[:8])))
		if t.now.Sub(at) <= idempotencyKept {
			return false
		}
		old = append(old, string(v))
		return len(old) < atATime
	}); err != nil {
		return err
	}
	for _, key := range old {
		was, err := need[idempotencyRecord](t, "idempotency key", key)
		if err != nil {
			return err
		}
		if err := remove(t, was); err != nil {
			return err
		}
	}
	before, err := find[idempotencyRecord](t, rec.Key)
	if err != nil {
		return err
	}
	return put(t, before, rec)
}

// Idempotent does for a creation of another package's, inside its transaction,
// what the service does for its own: it ends with a *ReplayedError if the
// context's key is known, and otherwise notes what is being made.
func Idempotent(ctx context.Context, w Writer, now time.Time, kind, id string) error {
	t := newTxn(ctx, w, now)
	if err := t.once(ctx); err != nil || t.idem == nil {
		return err
	}
	t.idem.kind, t.idem.id = kind, id
	return t.flushRest()
}

// IsReplay returns what an earlier request with the same key made, if err says
// so.
func IsReplay(err error) (*ReplayedError, bool) {
	var replayed *ReplayedError
	return replayed, errors.As(err, &replayed)
}
