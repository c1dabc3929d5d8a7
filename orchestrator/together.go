package orchestrator

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"davit/schemas"
)

// maxTogether is how many callers' parts one transaction takes at most.
const maxTogether = 512

// errAbandoned is what callers get whose transaction ended in a panic, which goes
// on in the goroutine that ran it.
var errAbandoned = errors.New("what was committed together with this panicked; it is not recorded")

// together puts what many callers ask for at the same time into one transaction,
// so that what their executions share (the job's progress, the totals, the
// counters, the revision) is read and written once for all of them. It has no
// goroutine of its own: the first caller to come runs the transaction at once, and
// those that come meanwhile, or soon after when they are many, are the next one, which
// the first of them runs.
type together struct {
	commit func(ctx context.Context, fn func(*txn) error) (outcome, error)
	most   int // parts in one transaction

	mu      sync.Mutex
	waiting []*part
	led     bool // somebody runs a transaction, or was told to
}

// part is what one caller asks for.
type part struct {
	run  func(*txn) error
	acks []schemas.Ack
	err  error
	// turn is told once: true that the caller has to run the next transaction,
	// false that its part has its answer.
	turn  chan bool
	leads bool // the former; guarded by together.mu
}

// do runs fn in a transaction that others may share, and returns the
// acknowledgements that fn left. An error of fn fails nobody else. fn may run
// more than once, as in Store.Update. An error of ctx means that nothing of fn was kept.
func (g *together) do(ctx context.Context, fn func(*txn) error) ([]schemas.Ack, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := &part{run: fn, turn: make(chan bool, 1)}
	if g.join(p) {
		g.lead(ctx)
		return p.acks, p.err
	}
	var leads bool
	select {
	case leads = <-p.turn:
	case <-ctx.Done():
		if g.leave(p) {
			return nil, ctx.Err()
		}
		leads = <-p.turn
	}
	if leads {
		g.gather()
		g.lead(ctx)
	}
	return p.acks, p.err
}

// A transaction that follows another is put off for a moment while parts keep coming:
// most of what a commit costs does not depend on how many there are in it. gatherFrom
// is how many have to have come during the one before, gatherLeast how many more in
// each step of waiting; fewer would only wait for each other. At 10,000 reports a
// second a commit takes some 380 of them.
const (
	gatherFrom  = 8
	gatherLeast = 8
	gatherStep  = 4 * time.Millisecond
	gatherMost  = 6 * gatherStep
)

// gather waits for more parts as long as they come fast, gatherMost at most.
func (g *together) gather() {
	have, began := g.waits(), time.Now()
	for have >= gatherFrom && have < g.most && time.Since(began) < gatherMost {
		time.Sleep(gatherStep)
		before := have
		if have = g.waits(); have < before+gatherLeast {
			return
		}
	}
}

func (g *together) waits() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}

// join adds a part to those that wait; true if its caller has to run them.
func (g *together) join(p *part) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, p)
	p.leads = !g.led
	g.led = true
	return p.leads
}

// leave takes back a part that nobody has taken up.
func (g *together) leave(p *part) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, p)
	if i < 0 || p.leads {
		return false
	}
	g.waiting = slices.Delete(g.waiting, i, i+1)
	return true
}

// lead runs what waits, at least the caller's own part, and passes the lead on.
// The transaction is nobody's alone, so it does not end with the caller's context.
func (g *together) lead(ctx context.Context) {
	g.mu.Lock()
	n := min(len(g.waiting), g.most)
	parts := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	g.mu.Unlock()
	for _, p := range parts {
		p.err = errAbandoned
	}
	defer g.answer(parts)
	g.run(context.WithoutCancel(ctx), parts)
}

func (g *together) answer(parts []*part) {
	for _, p := range parts[1:] { // the first is the caller's own
		p.turn <- false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.led = false
		return
	}
	g.waiting[0].leads = true
	g.waiting[0].turn <- true
}

// run commits parts together. If one fails, those before it are known to run and
// those after it are tried anew, so each runs twice at most beside its own failure.
func (g *together) run(ctx context.Context, parts []*part) {
	for len(parts) > 0 {
		failed, err := g.once(ctx, parts)
		if failed == nobody || len(parts) == 1 {
			for _, p := range parts {
				p.err = err
			}
			return
		}
		if failed == somebody {
			for i := range parts {
				g.run(ctx, parts[i:i+1])
			}
			return
		}
		g.run(ctx, parts[:failed])
		g.run(ctx, parts[failed:failed+1])
		parts = parts[failed+1:]
	}
}

// Who made a transaction fail, if it was not the part with a number.
const (
	nobody   = -1 // the store did, or it did not fail
	somebody = -2 // what the parts left to be written cannot be
)

// once tries parts in one transaction and says which made it fail.
func (g *together) once(ctx context.Context, parts []*part) (failed int, err error) {
	var last *txn
	_, err = g.commit(ctx, func(t *txn) error {
		last, failed = t, nobody
		for i, p := range parts {
			from := len(t.out.acks)
			if err := p.run(t); err != nil {
				failed = i
				return err
			}
			p.acks = slices.Clip(t.out.acks[from:])
		}
		return nil
	})
	if failed == nobody && last != nil && last.unsound {
		failed = somebody
	}
	return failed, err
}
