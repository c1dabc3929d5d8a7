package broker

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/internal/logevent"
	"davit/schemas"
)

const (
	// claimLease is how long a connection with a claim's token lasts.
	claimLease = time.Minute
	// maxClaimants is how many of them there may be at a time.
	maxClaimants = 1024
	// maxAsked is how many requests one of them may make.
	maxAsked = 8
	// requestWait bounds the handling of a request.
	requestWait = 30 * time.Second
)

// What Config.AdmitClaim says, for errors.Is.
var (
	// ErrClaimToken: there is no such claim, or the token is not its.
	ErrClaimToken = errors.New("no claim with this name and token")
	// ErrClaimRefused: the token is right, and the claim will not do.
	ErrClaimRefused = errors.New("claim refused")
)

// claimant is what a connection with a claim's token is beside a principal without
// devices: it may ask to be made one device, and hear the answer.
type claimant struct {
	claim, device string
	asked         atomic.Int32
	lease         *time.Timer // ends the connection; set when it has joined
}

// newClaimant makes the principal of one connection. The names of two claims or devices
// never meet, because no id has a slash.
func newClaimant(claim, device string) *principal {
	p := newPrincipal(schemas.ClaimUserPrefix+claim+"/"+device, nil)
	p.claimant = &claimant{claim: claim, device: device}
	return p
}

// byClaim finds the principal of a CONNECT whose user name names a claim.
func (h *hook) byClaim(c *conn, user, device string, token []byte) (*principal, verdict, error) {
	cfg := &h.b.cfg
	claim, ok := schemas.ParseClaimUser(user)
	switch {
	case c.listener != nil && c.listener.NoPasswords && c.listener.TLS == nil:
		return nil, verdictOff, nil
	case !ok || cfg.AdmitClaim == nil:
		return nil, verdictUnknown, nil
	case len(token) == 0 || len(token) > maxPassword:
		return nil, verdictMissing, nil
	case schemas.ValidateID(device) != nil:
		return nil, verdictClaim, errors.New("the client id has to be the device id that is claimed: 1 to 64 characters of A-Z a-z 0-9 . _ -")
	}
	ctx, cancel := context.WithTimeout(h.b.life, verifyWait)
	defer cancel()
	err := cfg.AdmitClaim(ctx, claim, string(token), device)
	switch {
	case errors.Is(err, ErrClaimToken):
		return nil, verdictPassword, nil
	case errors.Is(err, ErrClaimRefused):
		return nil, verdictClaim, err
	case err != nil:
		h.b.log.Error("a claim could not be looked up", "event", logevent.ClaimLookupFailed, "error", err)
		return nil, verdictBusy, nil
	case h.b.claimants.Load() >= maxClaimants: // a few more may come at the same moment
		return nil, verdictBusy, nil
	}
	return newClaimant(claim, device), verdictOK, nil
}

// isClaim says whether a user name is for claims: right or wrong, it is nobody else's.
func isClaim(user string) bool { return strings.HasPrefix(user, schemas.ClaimUserPrefix) }

// lend begins the lease of a claimant's connection, which has joined.
func (b *Broker) lend(c *conn) {
	if who := c.principal.claimant; who != nil {
		who.lease = time.AfterFunc(claimLease, func() { b.disconnect(c, packets.ErrMaxConnectTime) })
	}
}

// release ends it, when the connection has ended, however far it had come.
func (b *Broker) release(c *conn) {
	if who := c.principal.claimant; who != nil {
		b.claimants.Add(-1)
		if who.lease != nil {
			who.lease.Stop()
		}
	}
}

// Request is a message that is answered to the connection that sent it.
type Request struct {
	// Kind is one with an answer: schemas.Kind.Answer.
	Kind schemas.Kind
	// Claim is the claim whose token the sender has, of a KindClaim.
	Claim string
	// Device is the topic's: of a KindRotate the sender's own name.
	Device string
	// Certificate: the sender has logged in with one, and without a password.
	Certificate bool
	Payload     []byte
	// Remote is the sender's address.
	Remote string
}

// takeRequest hands a request to Config.OnRequest, on a goroutine of its own, and its
// answer to the connection that asked. It returns false if the message is none, and why
// it is not taken.
func (b *Broker) takeRequest(c *conn, pk *packets.Packet) (bool, refusal) {
	if c.principal.service {
		return false, allowed
	}
	t, err := schemas.ParseTopic(pk.TopicName)
	if err != nil || t.Kind.Answer() == "" {
		return false, allowed
	}
	answer := schemas.Topic{Device: t.Device, Kind: t.Kind.Answer()}.String()
	if _, ok := c.sub.find(answer); !ok {
		return true, refusedUnheard
	}
	if b.cfg.OnRequest == nil {
		return true, refusedKind
	}
	r := Request{Kind: t.Kind, Device: t.Device, Payload: pk.Payload, Remote: c.RemoteAddr().String(), Certificate: c.certificate != nil}
	if who := c.principal.claimant; who != nil {
		r.Claim = who.claim
		if who.asked.Add(1) > maxAsked {
			b.disconnect(c, packets.ErrQuotaExceeded)
			return true, refusedRate
		}
	}
	if !c.asking.CompareAndSwap(false, true) {
		return true, refusedRate
	}
	b.tasks.Add(1)
	go func() {
		defer b.tasks.Done()
		ctx, cancel := context.WithTimeout(b.life, requestWait)
		defer cancel()
		payload := b.cfg.OnRequest(ctx, r)
		c.asking.Store(false) // who has the answer may ask again at once
		if payload != nil {
			b.answer(c, answer, payload)
		}
	}()
	return true, allowed
}

// answer sends a message to one connection, if it subscribes to the topic, and to no
// other that does.
func (b *Broker) answer(c *conn, topic string, payload []byte) {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish}, ProtocolVersion: c.version,
		TopicName: topic, Payload: payload, ReasonCode: publishedQoS + 1,
	}
	for _, s := range b.index.find(topic) {
		if s.conn == c {
			s.send(pk, false)
		}
	}
}
