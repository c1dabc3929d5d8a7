package broker

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"davit/internal/logevent"
	"davit/schemas"
)

const (
	// maxClientID is the longest client id in bytes that is accepted.
	maxClientID = 256
	// maxSafeKeepalive in seconds: above it mochi's sum of one and a half
	// times the keep alive overflows its 16 bits.
	maxSafeKeepalive = 43_690
)

// notAuthorized answers those whom we know, or could, and do not let in.
var notAuthorized = packets.ErrNotAuthorized

var errRefused = errors.New("CONNECT refused")

// hook is where mochi asks us. All methods run on the read loop of the client
// that they are called for, but OnPacketEncode (whoever writes) and OnACLCheck
// and OnPublishDropped of a delivery (the publisher's read loop).
type hook struct {
	mqtt.HookBase
	b *Broker
}

// ID implements mqtt.Hook.
func (*hook) ID() string { return "davit" }

// Provides implements mqtt.Hook.
func (*hook) Provides(b byte) bool {
	return bytes.IndexByte([]byte{
		mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablish, mqtt.OnACLCheck,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPacketProcessed, mqtt.OnSubscribe, mqtt.OnSubscribed,
		mqtt.OnUnsubscribe, mqtt.OnSelectSubscribers, mqtt.OnPublish, mqtt.OnPublished, mqtt.OnPublishDropped, mqtt.OnRetainMessage,
		mqtt.OnWill, mqtt.OnWillSent,
	}, b) >= 0
}

// connOf returns nil for the inline client.
func connOf(cl *mqtt.Client) *conn {
	c, _ := cl.Net.Conn.(*conn)
	return c
}

// no is the answer to a CONNECT that is refused.
type no struct {
	code   packets.Code
	reason string        // metric label
	guess  bool          // the password was wrong, or nobody has the name
	detail string        // for the log
	retry  time.Duration // after which it may try again, or 0
}

// OnConnect implements mqtt.Hook: it decides on the CONNECT.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c := connOf(cl)
	c.client, c.version = cl, cl.Properties.ProtocolVersion
	since := time.Now()
	p, refused := h.decide(c, cl, pk)
	if refused != nil {
		c.talk.answered = true
		h.b.metrics.refused(refused.reason)
		if name := printable(pk.Connect.Username); h.b.refused.tell(c.origin(), h.b.strangers.Allow(name)) {
			h.b.log.Warn("MQTT CONNECT refused", "event", logevent.BrokerConnectRefused, "reason", refused.reason, "principal", name,
				"client_id", printable([]byte(pk.Connect.ClientIdentifier)), "remote", cl.Net.Remote, "detail", refused.detail)
		}
		if refused.guess {
			h.b.endTurn(c, true)
			if !h.b.failures.delay(c.origin(), since, c.closed) {
				return errRefused
			}
		}
		if refused.retry > 0 {
			c.sendAway(&pk, refused.code, refused.retry)
			return errRefused
		}
		// An error would only say that the client is gone.
		_ = h.b.server.SendConnack(cl, connackCode(c.version, refused.code), false, nil)
		return errRefused
	}
	h.b.failures.right(c.origin())
	h.prepare(c, cl, pk, p)
	return nil
}

// decide finds out who is there and whether it may come in.
func (h *hook) decide(c *conn, cl *mqtt.Client, pk packets.Packet) (*principal, *no) {
	if pk.Properties.AuthenticationMethod != "" {
		return nil, &no{code: packets.ErrBadAuthenticationMethod, reason: "authentication_method"}
	}
	if len(pk.Connect.ClientIdentifier) > maxClientID {
		return nil, &no{code: packets.ErrClientIdentifierNotValid, reason: "client_id"}
	}
	if len(pk.Properties.User) > maxUserProperties || len(pk.Connect.WillProperties.User) > maxUserProperties {
		h.b.metrics.limited(string(refusedUser))
		return nil, &no{code: packets.ErrQuotaExceeded, reason: string(refusedUser)}
	}
	p, refused := h.identify(c, string(pk.Connect.Username), pk.Connect.ClientIdentifier, pk.Connect.Password)
	if refused != nil {
		return nil, refused
	}
	if !p.service {
		if refused := h.tooSoon(p); refused != nil {
			return nil, refused
		}
	}
	if w := cl.Properties.Will; w.Flag == 1 {
		r := p.mayPublish(w.TopicName, w.Retain, len(w.Payload))
		switch {
		case r == refusedDevice && p.bridge():
			// The will speaks for one device of many. When that one was taken off the bridge's list, the
			// others must not stay away because of it; all of them go offline without a will as well (presence.go).
			h.b.metrics.aclRefused(actionWill, r)
			cl.Properties.Will = mqtt.Will{}
		case r != allowed || w.Qos > 1:
			h.b.metrics.aclRefused(actionWill, r)
			if r.limit() {
				h.b.metrics.limited(string(r))
			}
			return nil, &no{code: r.publishCode(), reason: "will"}
		}
	}
	if p.service {
		return p, nil
	}
	if !h.b.hold(c) {
		return nil, &no{code: packets.ErrServerUnavailable, reason: "not_ready"}
	}
	if h.b.sessions.len() >= h.b.cfg.Limits.MaxConnections {
		return nil, &no{code: packets.ErrServerBusy, reason: "too_many_connections"}
	}
	return p, nil
}

// identify finds out who is there.
func (h *hook) identify(c *conn, name, clientID string, password []byte) (*principal, *no) {
	var p *principal
	var v verdict
	var err error
	switch {
	case isClaim(name):
		p, v, err = h.byClaim(c, name, clientID, password)
	case c.certificate != nil:
		p, v, err = h.b.byCertificate(c.certificate, name)
	case c.listener != nil && c.listener.NoPasswords && !c.service:
		v = verdictOff
	case h.crowdedOut(c, name, password):
		return nil, &no{code: packets.ErrServerBusy, reason: "crowded", detail: "too many with wrong passwords come from this address"}
	default:
		p, v = h.authenticate(name, password)
	}
	switch v {
	case verdictOK:
		return p, nil
	case verdictBusy:
		return nil, &no{code: packets.ErrServerBusy, reason: "busy"}
	}
	h.b.metrics.authFailed(string(v))
	switch {
	case v == verdictOff && isClaim(name):
		return nil, &no{code: notAuthorized, reason: string(v), detail: "tokens of claims are accepted over TLS only, where passwords are off; claim over --mqtts"}
	case v == verdictClaim:
		// Whoever has a token tries with it, so this is as slow as a wrong one.
		return nil, &no{code: notAuthorized, reason: string(v), guess: true, detail: err.Error()}
	case v == verdictOff:
		return nil, &no{code: notAuthorized, reason: string(v), detail: "passwords are not accepted on this listener; give the client a certificate, or davit serve --passwords on in a lab"}
	case v == verdictShut:
		return nil, &no{code: notAuthorized, reason: string(v), detail: "the device is in quarantine; davit device release ID ends that"}
	case err != nil:
		return nil, &no{code: notAuthorized, reason: string(v), detail: err.Error()}
	case c.certificate != nil && !isClaim(name):
		return nil, &no{code: notAuthorized, reason: string(v), detail: "the certificate is that of " + c.certificate.id.ID + ", which the service does not know"}
	}
	return nil, &no{code: packets.ErrBadUsernameOrPassword, reason: "authentication", guess: true, detail: string(v)}
}

// crowdedOut says whether nothing is to be reckoned for a connection, because its address
// has become crowded since it was accepted. Who is known to have the right password is
// heard all the same, and so is the service.
func (h *hook) crowdedOut(c *conn, name string, password []byte) bool {
	if s, ok := c.socket.(*socket); !ok || s.heard || c.service || h.b.cfg.Credentials.remembers(name, password) {
		return false
	}
	crowded, _ := h.b.failures.crowded(c.origin())
	return crowded
}

func (h *hook) authenticate(name string, password []byte) (*principal, verdict) {
	cfg := &h.b.cfg
	if name == "" {
		return nil, verdictMissing
	}
	if name == cfg.ServiceName && cfg.ServicePassword != "" {
		want, got := sha256.Sum256([]byte(cfg.ServicePassword)), sha256.Sum256(password)
		if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
			return nil, verdictPassword
		}
		return &principal{name: name, service: true, meter: newMeter()}, verdictOK
	}
	if cfg.Credentials == nil {
		return nil, verdictUnknown
	}
	return cfg.Credentials.authenticate(name, password)
}

// hold waits until devices are admitted.
func (b *Broker) hold(c *conn) bool {
	select {
	case <-b.admitted:
		return true
	default:
	}
	t := time.NewTimer(b.cfg.Limits.ConnectTimeout)
	defer t.Stop()
	select {
	case <-b.admitted:
		return true
	case <-t.C:
	case <-c.closed:
	case <-b.stopping:
	}
	return false
}

// prepare sets up connection and mochi's client for an admitted CONNECT.
func (h *hook) prepare(c *conn, cl *mqtt.Client, pk packets.Packet, p *principal) {
	limits := &h.b.cfg.Limits
	c.principal = p
	if p.claimant != nil {
		h.b.claimants.Add(1)
	}
	c.maxPacket = cl.Properties.Props.MaximumPacketSize
	// A principal's name has no NUL, so the ids of two never meet.
	c.id = p.name + "\x00" + cl.ID
	cl.ID = c.id

	c.mu.Lock()
	c.limit = limits.WriteBuffer
	if h.b.cfg.OnFetch == nil {
		c.limit += len(p.devices) * schemas.MaxAwaited
	}
	window := limits.Window
	if p.service {
		c.limit, window = limits.ServiceWriteBuffer, limits.ServiceWindow
	}
	c.out.window = windowFor(window, pk.Properties.ReceiveMaximum)
	c.mu.Unlock()

	// mochi keeps nothing in flight; with no quota it never looks for more to send.
	cl.Properties.Props.ReceiveMaximum = 0
	cl.State.Inflight.ResetSendQuota(0)
	// It would use an alias that a dropped message should have introduced.
	cl.Properties.Props.TopicAliasMaximum = 0
	// The session ends with the connection, and the will is due at that time.
	c.talk.expiry = pk.Properties.SessionExpiryInterval > 0
	cl.Properties.Props.SessionExpiryInterval = 0
	cl.Properties.Props.SessionExpiryIntervalFlag = false
	cl.Properties.Clean = true
	cl.Properties.Will.WillDelayInterval = 0
	c.talk.will = cl.Properties.Will

	longest := uint16(limits.MaxKeepalive / time.Second)
	switch k := cl.State.Keepalive; {
	case c.version >= 5 && (k == 0 || k > longest):
		cl.State.Keepalive, cl.State.ServerKeepalive = longest, true
	case k == 0:
		cl.State.Keepalive = longest // MQTT 3.1.1 lets us drop the silent, but not say when
	default:
		cl.State.Keepalive = min(k, maxSafeKeepalive)
	}
}

// OnConnectAuthenticate implements mqtt.Hook; OnConnect has decided.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, _ packets.Packet) bool {
	return connOf(cl).principal != nil
}

// OnSessionEstablish implements mqtt.Hook: it waits until nothing is left of
// an earlier connection with the same client id.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	c := connOf(cl)
	ended := h.b.sessions.join(c, h.b.cfg.Limits.MaxPerPrincipal)
	for range ended {
		h.b.metrics.takenOver()
	}
	h.b.metrics.connected(c.transport, 1)
	h.b.lend(c)
	if c.principal.revoked.Load() {
		c.abort() // the change came between the password check and join
	}
	h.b.checkJoined(c)
	h.b.log.Debug("MQTT connection accepted", "event", logevent.BrokerConnected, "principal", c.principal.name, "remote", cl.Net.Remote, "version", c.version)
}

// OnWill implements mqtt.Hook.
func (h *hook) OnWill(cl *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	if will.Retain {
		h.b.lockStore(connOf(cl))
	}
	return will, nil
}

// OnWillSent implements mqtt.Hook.
func (h *hook) OnWillSent(cl *mqtt.Client, _ packets.Packet) { connOf(cl).talk.willSent = true }

// connackCode translates a reason code for MQTT 3.1.1 clients (3.1.1, 3.2.2.3).
func connackCode(version byte, code packets.Code) packets.Code {
	if version >= 5 {
		return code
	}
	switch code {
	case packets.ErrServerBusy, packets.ErrServerUnavailable, packets.ErrConnectionRateExceeded:
		return packets.Err3ServerUnavailable
	case packets.ErrClientIdentifierNotValid:
		return packets.Err3ClientIdentifierNotValid
	}
	return packets.Err3NotAuthorized
}

// printable shortens what a stranger sent for the log.
func printable(b []byte) string {
	const most = 64
	if len(b) > most {
		b = b[:most]
	}
	return string(bytes.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, b))
}

// shareTurns gives each message of a shared subscription to the next member.
type shareTurns struct {
	mu   sync.Mutex
	next map[string]int // by filter; only the service subscribes to any
}

func (s *shareTurns) pick(filter string, members []string) string {
	slices.Sort(members)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = make(map[string]int)
	}
	i := s.next[filter] % len(members)
	s.next[filter] = i + 1
	return members[i]
}

// OnSelectSubscribers implements mqtt.Hook: members of a shared subscription
// take turns; mochi would take whichever its map yields, closed or not.
func (h *hook) OnSelectSubscribers(subs *mqtt.Subscribers, _ packets.Packet) *mqtt.Subscribers {
	for filter, group := range subs.Shared {
		members := make([]string, 0, len(group))
		for id := range group {
			if cl, ok := h.b.server.Clients.Get(id); ok && !cl.Closed() {
				members = append(members, id)
			}
		}
		if len(members) == 0 {
			continue
		}
		id := h.b.turns.pick(filter, members)
		sub, both := subs.SharedSelected[id]
		if !both {
			sub = group[id]
		}
		subs.SharedSelected[id] = sub.Merge(group[id])
	}
	return subs
}
