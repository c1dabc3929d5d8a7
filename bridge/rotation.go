package bridge

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync/atomic"
	"time"

	"davit/internal/clock"
	"davit/internal/logevent"
	"davit/schemas"
)

// Passwords keep the password by which the bridge logs in.
type Passwords interface {
	// Put keeps another password, on disk, and has the connection made anew with it.
	Put(password string) error
	// Since is when the present one was kept.
	Since() time.Time
}

// Times of a change of the password.
const (
	rotateAnswer = 15 * time.Second // for an answer; then it is asked again
	rotateBusy   = 70 * time.Second // after a request that came too soon
	rotateFailed = time.Hour        // after one that could not be carried out
	rotateLook   = time.Hour        // how often the age is looked at
)

// rotation changes the bridge's own password, when it is told to or the password is old.
type rotation struct {
	name    string // MQTT user name
	keep    Passwords
	every   time.Duration // 0 means never by itself
	publish func(context.Context, Message) error
	log     *slog.Logger
	said    chan schemas.Rotated // by the service
	linked  chan struct{}        // the connection stands

	ended atomic.Int64 // connections that have ended

	nonce string // of the request under way, if any
	sent  bool   // the broker has taken it,
	on    int64  // when so many connections had ended
}

func newRotation(name string, keep Passwords, every time.Duration, publish func(context.Context, Message) error, log *slog.Logger) *rotation {
	return &rotation{name: name, keep: keep, every: every, publish: publish, log: log, said: make(chan schemas.Rotated, 4), linked: make(chan struct{}, 1)}
}

func (r *rotation) subscription() Subscription {
	return Subscription{Topic: schemas.Topic{Device: r.name, Kind: schemas.KindRotated}.String(), QoS: schemas.KindRotated.QoS()}
}

// take takes what the service says, without waiting.
func (r *rotation) take(payload []byte) {
	var a schemas.Rotated
	if err := schemas.Decode(payload, &a); err != nil {
		r.log.Warn("a malformed word about the bridge's password", "event", logevent.PasswordWordMalformed, "error", err)
		return
	}
	select {
	case r.said <- a:
	default: // it is asked again
	}
}

// up says that the connection stands.
func (r *rotation) up() {
	select {
	case r.linked <- struct{}{}:
	default:
	}
}

// down says that it has ended: what was asked on it is not answered any more.
func (r *rotation) down() { r.ended.Add(1) }

// run does what is due until ctx ends.
func (r *rotation) run(ctx context.Context) {
	timer := time.NewTimer(rotateLook)
	defer timer.Stop()
	for {
		wait := rotateLook
		select {
		case <-ctx.Done():
			return
		case a := <-r.said:
			wait = r.heard(ctx, a)
		case <-r.linked:
			// The service may have said that the password is due before all subscriptions
			// stood: it has been asked then, and asked twice it would make two passwords, of
			// which only the later one is good.
			wait = rotateAnswer
			if r.nonce == "" || !r.sent || r.on != r.ended.Load() {
				wait = r.look(ctx)
			}
		case <-timer.C:
			wait = r.look(ctx)
		}
		timer.Reset(wait)
	}
}

// look asks for another password if a request is under way or the present one is old, and
// returns when to look again.
func (r *rotation) look(ctx context.Context) time.Duration {
	if r.nonce == "" {
		// One that was kept in the future has no age, as the clock was ahead or set back since;
		// to wait for it would last longer by as much.
		since, now := r.keep.Since(), time.Now()
		if r.every == 0 || now.Sub(since) < r.every && !clock.ToCome(since, now) {
			return rotateLook
		}
		r.nonce = rand.Text()
	}
	return r.ask(ctx)
}

func (r *rotation) ask(ctx context.Context) time.Duration {
	r.on = r.ended.Load()
	m, err := message(r.name, &schemas.Rotate{V: schemas.Version, Nonce: r.nonce})
	if err == nil {
		call, cancel := context.WithTimeout(ctx, rotateAnswer)
		err = r.publish(call, m)
		cancel()
	}
	r.sent = err == nil
	if err != nil {
		r.log.Debug("another password is not asked for", "event", logevent.PasswordNotAsked, "error", err)
	}
	return rotateAnswer
}

// heard acts on a word of the service.
func (r *rotation) heard(ctx context.Context, a schemas.Rotated) time.Duration {
	switch {
	case a.Due && r.nonce == "":
		r.nonce = rand.Text()
		return r.ask(ctx)
	case a.Due || r.nonce == "" || a.Nonce != r.nonce:
		return rotateAnswer // it was told twice, or comes late
	case a.Error.Temporary():
		return rotateBusy
	}
	r.nonce = ""
	if a.Error != "" {
		r.log.Error("the service does not change the bridge's password", "event", logevent.PasswordRefused, "reason", a.Error, "detail", a.Detail)
		return rotateFailed
	}
	if err := r.keep.Put(a.Password); err != nil {
		r.log.Error("the bridge's new password is not kept; it goes on with the present one", "event", logevent.PasswordNotKept, "error", err)
		return rotateFailed
	}
	r.log.Info("the bridge has another password, and connects with it", "event", logevent.PasswordTaken)
	return rotateLook
}
