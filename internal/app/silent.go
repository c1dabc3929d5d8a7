package app

import (
	"context"
	"errors"

	"davit/orchestrator"
	"davit/schemas"
)

// silent is the Publisher of a process that only looks at the records: it
// refuses to publish.
type silent struct{}

var _ orchestrator.Publisher = silent{}

var errSilent = errors.New("this process publishes nothing")

func (silent) Offer(context.Context, string, schemas.Offer) error { return errSilent }

func (silent) Withdraw(context.Context, string) error { return errSilent }

func (silent) Forget(context.Context, string) error { return errSilent }

func (silent) Ack(context.Context, string, schemas.Ack) error { return errSilent }

func (silent) Profile(context.Context, string, schemas.Profile) error { return errSilent }

func (silent) Chunk(context.Context, string, []byte) error { return errSilent }
