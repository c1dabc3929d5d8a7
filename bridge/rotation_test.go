package bridge

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"davit/internal/clock"
	"davit/schemas"
)

// keptPassword is one that was kept at a time.
type keptPassword time.Time

func (keptPassword) Put(string) error { return nil }

func (k keptPassword) Since() time.Time { return time.Time(k) }

// A password is asked for when the present one is old, and when it was kept in the future,
// as the clock has it: not after a set-back as NTP does it.
func TestRotationByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for age, want := range map[time.Duration]int{0: 0, 23 * time.Hour: 0, 24 * time.Hour: 1, -clock.Slack: 0, -clock.Slack - time.Second: 1, -365 * 24 * time.Hour: 1} {
			asked := 0
			publish := func(context.Context, Message) error { asked++; return nil }
			r := newRotation("rack", keptPassword(time.Now().Add(-age)), 24*time.Hour, publish, slog.New(slog.DiscardHandler))
			if next := r.look(t.Context()); asked != want || (next == rotateLook) != (want == 0) {
				t.Errorf("aged %s it was asked for %d times, and is looked at again in %s", age, asked, next)
			}
		}
	})
}

// fresh is Passwords with one that is not old.
type fresh struct{}

func (fresh) Put(string) error { return nil }
func (fresh) Since() time.Time { return time.Now() }

// A request is made once on a connection: answered twice, the password of the first answer
// would not be good any more. On the next connection it is made again at once, and on one
// that stays silent after a while.
func TestAnotherPasswordIsAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var nonces []string
		var connected atomic.Bool
		connected.Store(true)
		r := newRotation("rack", fresh{}, 0, func(_ context.Context, m Message) error {
			var asked schemas.Rotate
			if err := schemas.Decode(m.Payload, &asked); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			nonces = append(nonces, asked.Nonce)
			if !connected.Load() {
				return errors.New("not connected")
			}
			return nil
		}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() { defer close(over); r.run(ctx) }()
		times := func(n int, when string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(nonces) != n || nonces[n-1] != nonces[0] {
				t.Errorf("%s: asked with %q, not %d times with the same", when, nonces, n)
			}
		}
		r.take([]byte(`{"v":1,"due":true}`)) // comes with its subscription, others are still made
		times(1, "told")
		r.up()
		times(1, "the connection stands")
		r.down()
		r.up()
		times(2, "another connection")
		time.Sleep(rotateAnswer)
		times(3, "no answer")
		connected.Store(false)
		r.down()
		time.Sleep(rotateAnswer)
		times(4, "without a connection")
		connected.Store(true)
		r.up()
		times(5, "the next connection")
		stop()
		<-over
	})
}
