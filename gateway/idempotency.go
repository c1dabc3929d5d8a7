package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"davit/gateway/people"
	"davit/orchestrator"
)

// Keyed is a part of requests that create something.
type Keyed struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"128" doc:"Makes the creation happen once, however often the request is repeated with the same key within 24 hours: repetitions are answered with the record as it stands now and Idempotency-Replayed: true. The same key with another request is refused with 422."`
}

// once returns the context of a creation that happens once for the request's
// key, if it has one. Keys are the user's own and count for one operation.
// request is what has to be the same when the key is used again; it must not hold
// secrets, because a hash of it is kept.
func (k Keyed) once(ctx context.Context, operation string, request any) (context.Context, error) {
	if k.IdempotencyKey == "" {
		return ctx, nil
	}
	principal, _ := people.PrincipalOf(ctx)
	b, err := json.Marshal(request)
	if err != nil {
		return ctx, fmt.Errorf("idempotency key: %w", err)
	}
	return orchestrator.WithIdempotency(ctx, orchestrator.IdempotencyKey{
		Key:         digest([]byte(strings.Join([]string{principal.User, operation, k.IdempotencyKey}, "\x00"))),
		Fingerprint: digest(b),
	}), nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// created is the answer to a creation.
type created[T any] struct {
	Location string `header:"Location" doc:"The path of what was created."`
	ETag     string `header:"ETag" doc:"The record's revision, for If-Match."`
	Replayed string `header:"Idempotency-Replayed" doc:"true if a request with the same Idempotency-Key created the record before."`
	Body     T
}

// createOf creates something from a JSON body.
type createOf[T any] struct {
	Keyed
	Body T
}

// place is where a record is found and the revision that it is at.
type place struct {
	path     string
	revision uint64
}

// made answers a creation.
func made[T any](v T, at place, err error) (*created[T], error) {
	if err != nil {
		return nil, err
	}
	return &created[T]{Location: at.path, ETag: entityTag(at.revision), Body: v}, nil
}

// maker creates records of one kind.
type maker[N, T any] struct {
	operation string
	create    func(context.Context, N) (T, error)
	// read returns the record that an earlier request made.
	read func(ctx context.Context, id string) (T, error)
	at   func(T) place
}

// answer carries out a creation once for the request's key.
func (m maker[N, T]) answer(ctx context.Context, in *createOf[N]) (*created[T], error) {
	once, err := in.once(ctx, m.operation, in.Body)
	if err != nil {
		return nil, err
	}
	v, err := m.create(once, in.Body)
	return m.made(ctx, v, err)
}

// made answers a creation that has been tried.
func (m maker[N, T]) made(ctx context.Context, v T, err error) (*created[T], error) {
	replay, replayed := orchestrator.IsReplay(err)
	if replayed {
		v, err = m.read(ctx, replay.ID)
		if errors.Is(err, orchestrator.ErrNotFound) {
			err = fmt.Errorf("%w: the %s %q that a request with this idempotency key created is gone; take a new key to create another", orchestrator.ErrConflict, replay.Kind, replay.ID)
		}
	}
	out, err := made(v, m.at(v), err)
	if replayed && err == nil {
		out.Replayed = "true"
	}
	return out, err
}
