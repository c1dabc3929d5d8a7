package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"davit/internal/clock"
	"davit/internal/logevent"
	"davit/orchestrator"
	"davit/schemas"
)

// LoginState is how the password of a device or bridge stands.
type LoginState struct {
	PasswordSince time.Time `json:"password_since,omitzero" doc:"When its password was made; absent if that was before the service noted it"`
	RotateOrdered time.Time `json:"rotate_ordered_at,omitzero" doc:"Since when its password is to be changed; absent if it is not"`
	PendingUntil  time.Time `json:"pending_until,omitzero" doc:"Until when a new password can be used that was given to it and that it has not logged in with yet; absent without one"`
}

// rotations change passwords without a moment at which none is good.
type rotations interface {
	// Login says how a password stands; false if there is none of that name.
	Login(ctx context.Context, name string) (LoginState, bool, error)
	// Renew gives a device or bridge a password beside the one that it has; the first login
	// with it ends the old one, and until does it if there is none.
	Renew(ctx context.Context, name string) (password string, until time.Time, err error)
	// Order notes that the passwords are to be changed of those for whom which says so, tells
	// them, and returns how many were noted now.
	Order(ctx context.Context, which func(p Principal, l LoginState) bool) (int, error)
}

// NewRotation orders that passwords be changed, by the devices and bridges themselves.
type NewRotation struct {
	Devices    []string              `json:"devices,omitempty" maxItems:"1000" doc:"These devices; they have to have a password"`
	Bridges    []string              `json:"bridges,omitempty" maxItems:"1000" doc:"These bridges"`
	AllDevices bool                  `json:"all_devices,omitempty" doc:"All devices that have a password; not together with devices"`
	AllBridges bool                  `json:"all_bridges,omitempty" doc:"All bridges; not together with bridges"`
	OlderThan  orchestrator.Duration `json:"older_than,omitempty" doc:"Only passwords that are at least so old, for example 2160h; one of unknown age is, and so is one that was made in the future, as the clock has it now"`
}

// Rotation is what an order has done.
type Rotation struct {
	Ordered int `json:"ordered" doc:"How many passwords are to be changed that were not before"`
}

func (n *NewRotation) validate() error {
	switch {
	case n.AllDevices && len(n.Devices) > 0:
		return orchestrator.InvalidField("devices", "it cannot stand together with all_devices; leave one of them out")
	case n.AllBridges && len(n.Bridges) > 0:
		return orchestrator.InvalidField("bridges", "it cannot stand together with all_bridges; leave one of them out")
	case !n.AllDevices && !n.AllBridges && len(n.Devices)+len(n.Bridges) == 0:
		return orchestrator.InvalidField("devices", "nothing is named; name devices or bridges, or say all_devices or all_bridges")
	}
	return nil
}

// OrderRotation notes that passwords are to be changed, by those whose they are.
func (p *Provisioner) OrderRotation(ctx context.Context, n NewRotation) (Rotation, error) {
	if err := n.validate(); err != nil {
		return Rotation{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for kind, names := range map[string][]string{"devices": n.Devices, "bridges": n.Bridges} {
		for i, name := range names {
			principal, known, err := p.credentials.Principal(ctx, name)
			if err != nil {
				return Rotation{}, err
			}
			if !known || principal.Bridge != (kind == "bridges") {
				return Rotation{}, orchestrator.InvalidField(fmt.Sprintf("%s/%d", kind, i), "%q has no password; is it registered, and not by certificate only?", name)
			}
		}
	}
	now := time.Now()
	ordered, err := p.credentials.Order(ctx, func(principal Principal, l LoginState) bool {
		named := n.AllDevices || slices.Contains(n.Devices, principal.Name)
		if principal.Bridge {
			named = n.AllBridges || slices.Contains(n.Bridges, principal.Name)
		}
		old := now.Sub(l.PasswordSince) >= time.Duration(n.OlderThan)
		return named && (l.PasswordSince.IsZero() || old || clock.ToCome(l.PasswordSince, now))
	})
	if err != nil {
		return Rotation{}, err
	}
	kind, id := orchestrator.KindDevice, ""
	if len(n.Devices) == 0 && !n.AllDevices {
		kind = orchestrator.KindBridge
	}
	if names := slices.Concat(n.Devices, n.Bridges); len(names) == 1 {
		id = names[0]
	}
	return Rotation{ordered}, p.service.Audit(ctx, "order-rotation", kind, id, nil, struct {
		NewRotation
		Rotation
	}{n, Rotation{ordered}})
}

// Login says how the password of a device or bridge stands; nil if it has none.
func (p *Provisioner) Login(ctx context.Context, name string) (*LoginState, error) {
	l, known, err := p.credentials.Login(ctx, name)
	if err != nil || !known {
		return nil, err
	}
	return &l, nil
}

// Limits of requests for other passwords.
const (
	renewEvery  = time.Minute // of one login
	renewRepeat = 3           // times that one may be made for the same nonce within that
	renewKept   = 4096        // passwords that are kept for it
)

// Rotations answers devices and bridges that ask for another password. A request that is
// repeated because its answer was lost has the same nonce, and gets the same password: until
// a minute has passed, the passwords that were given are kept in memory, and nowhere else.
// So another one is made, which takes the place of the one before, if the service was started
// anew meanwhile, or too many are kept.
type Rotations struct {
	provision *Provisioner
	metrics   *Metrics
	log       *slog.Logger

	mu    sync.Mutex
	asked map[string]*asked
}

// asked is the last change of a login.
type asked struct {
	nonce string
	keep  bool // the password, for a repetition

	mu       sync.Mutex // held while one is made
	times    int        // that one was made, or was to be
	password string     // empty if none is kept
	until    time.Time
}

// NewRotations returns what answers with a provisioner. metrics may be nil.
func NewRotations(p *Provisioner, metrics *Metrics, log *slog.Logger) *Rotations {
	return &Rotations{provision: p, metrics: metrics, log: log, asked: map[string]*asked{}}
}

// Answer handles the request of a login, which certificate says is by certificate, and
// returns the answer.
func (r *Rotations) Answer(ctx context.Context, name string, certificate bool, remote string, payload []byte) schemas.Rotated {
	answer := schemas.Rotated{V: schemas.Version}
	refuse := func(reason schemas.RequestError, text string) schemas.Rotated {
		r.metrics.rotation(string(reason))
		answer.Error, answer.Detail = reason, schemas.Detail(text)
		return answer
	}
	var request schemas.Rotate
	if err := schemas.Decode(payload, &request); err != nil {
		return refuse(schemas.ErrorMalformed, err.Error())
	}
	answer.Nonce = request.Nonce
	if certificate {
		return refuse(schemas.ErrorNotAllowed, "this login is by certificate, and has no password to change")
	}
	ctx = orchestrator.WithActor(ctx, orchestrator.Actor{Name: name, Kind: orchestrator.ActorModule, Address: remote})
	password, until, err := r.give(ctx, name, request.Nonce, remote)
	switch {
	case errors.Is(err, errAskedLately):
		return refuse(schemas.ErrorBusy, "one change a minute; ask again later")
	case err != nil:
		r.log.Error("a password could not be changed", "event", logevent.PasswordNotChanged, "principal", name, "error", err)
		return refuse(schemas.ErrorInternal, "the service could not do it; ask again later")
	}
	r.metrics.rotation(rotationGiven)
	answer.Password, answer.Expires = password, until
	return answer
}

// errAskedLately: a login may not have another password yet.
var errAskedLately = errors.New("its password was changed within the last minute")

// give returns the password that was made for a nonce, or makes one if the login may have
// another; errAskedLately if not.
func (r *Rotations) give(ctx context.Context, name, nonce, remote string) (string, time.Time, error) {
	a := r.ask(name, nonce)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.nonce != nonce, a.password == "" && a.times >= renewRepeat:
		return "", time.Time{}, errAskedLately
	case a.password != "":
		l, _, err := r.provision.credentials.Login(ctx, name)
		if err == nil && !l.PendingUntil.Equal(a.until) {
			err = errAskedLately // it has logged in with it, or people have changed it
		}
		return a.password, a.until, err
	}
	a.times++
	password, until, err := r.provision.renew(ctx, name)
	if err != nil {
		return "", time.Time{}, err
	}
	if a.keep {
		a.password, a.until = password, until
	}
	r.log.Info("another password is given", "event", logevent.PasswordGiven, "principal", name, "remote", remote)
	return password, until, nil
}

// ask returns what a login has asked for lately, which is this if it is nothing else. It is
// forgotten when the time is over.
func (r *Rotations) ask(name, nonce string) *asked {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.asked[name]
	if a != nil {
		return a
	}
	a = &asked{nonce: nonce, keep: len(r.asked) < renewKept}
	r.asked[name] = a
	time.AfterFunc(renewEvery, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.asked, name)
	})
	return a
}

// renew gives a login another password beside its own.
func (p *Provisioner) renew(ctx context.Context, name string) (string, time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	principal, known, err := p.credentials.Principal(ctx, name)
	if err == nil && !known {
		err = errors.New("it has no password any more")
	}
	if err != nil {
		return "", time.Time{}, err
	}
	password, until, err := p.credentials.Renew(ctx, name)
	if err != nil {
		return "", time.Time{}, err
	}
	kind := orchestrator.KindDevice
	if principal.Bridge {
		kind = orchestrator.KindBridge
	}
	return password, until, p.service.Audit(ctx, "renew", kind, name, nil, nil)
}

// rotationGiven is the result, for Metrics, that is no schemas.RequestError.
const rotationGiven = "given"
