package broker

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

// principal is who a connection belongs to. It does not change; when its
// credentials do, it is revoked and another takes its place.
type principal struct {
	name    string
	service bool
	revoked atomic.Bool
	devices []string // sorted
	meter   meter
	// claimant is not nil for a connection with a claim's token; it has no devices.
	claimant *claimant
}

func newPrincipal(name string, devices []string) *principal {
	p := &principal{name: name, devices: slices.Clone(devices), meter: newMeter()}
	slices.Sort(p.devices)
	return p
}

func (p *principal) owns(device string) bool {
	_, ok := slices.BinarySearch(p.devices, device)
	return ok
}

// bridge says whether the principal acts for others and not for itself.
func (p *principal) bridge() bool { return !p.service && !p.owns(p.name) }

// refusal says why something is not allowed; the zero value allows it. The
// values are metric labels.
type refusal string

const (
	allowed         refusal = ""
	refusedTopic    refusal = "topic"     // not a topic of the contract
	refusedDevice   refusal = "device"    // another principal's device
	refusedSide     refusal = "direction" // the service's to say or the device's to hear
	refusedRetain   refusal = "retain"    // retained, which the contract does not have for it
	refusedQoS      refusal = "qos"       // another quality of service than the contract has for it
	refusedSize     refusal = "size"      // over Kind.MaxPayload
	refusedRevoked  refusal = "revoked"   // the credentials are no longer valid
	refusedWildcard refusal = "wildcard"  // a wildcard or shared filter by a device
	refusedStreams  refusal = "streams"   // more streams than a connection may follow
	refusedLength   refusal = "topic_length"
	refusedUser     refusal = "user_properties" // more than maxUserProperties
	refusedFilters  refusal = "filters"         // more filters in one SUBSCRIBE than could be of use
	refusedKind     refusal = "kind"            // a message for principals of another kind
	refusedUnheard  refusal = "unheard"         // a request whose answer the sender does not subscribe to
	refusedRate     refusal = "rate"            // a request too many
)

// Bounds on what clients name. The contract's longest topic has 82 bytes and four
// levels, and it has no user properties; there is room for those of client libraries.
const (
	maxTopicLength    = 256
	maxTopicLevels    = 8
	maxUserProperties = 16
)

// limit says that something was refused for its size or number, not for what it is.
func (r refusal) limit() bool {
	switch r {
	case refusedSize, refusedStreams, refusedLength, refusedUser, refusedFilters, refusedRate:
		return true
	}
	return false
}

// tooLong says whether a topic or filter is longer, or deeper, than any of the
// contract's could be.
func tooLong(topic string) bool {
	return len(topic) > maxTopicLength || strings.Count(topic, "/") >= maxTopicLevels
}

// outside is why a topic that is not one of the contract's is refused.
func outside(topic string) refusal {
	if tooLong(topic) {
		return refusedLength
	}
	return refusedTopic
}

// publishCode is the reason of a message that is refused (MQTT 5, 3.4.2.1), or of
// the CONNECT whose will it is (3.2.2.2).
func (r refusal) publishCode() packets.Code {
	switch r {
	case refusedSize, refusedUser, refusedRate:
		return packets.ErrQuotaExceeded
	case refusedLength:
		return packets.ErrTopicNameInvalid
	}
	return packets.ErrNotAuthorized
}

// subscribeCode is the reason of a subscription that is refused (MQTT 5, 3.9.3).
func (r refusal) subscribeCode() packets.Code {
	switch r {
	case refusedStreams, refusedFilters:
		return packets.ErrQuotaExceeded
	case refusedLength:
		return packets.ErrTopicFilterInvalid
	}
	return packets.ErrNotAuthorized
}

// mayPublish decides on one message to topic. Its QoS is not looked at: a
// device that sends a status with QoS 0 repeats it until it is acknowledged
// anyway.
func (p *principal) mayPublish(topic string, retain bool, size int) refusal {
	if p.revoked.Load() {
		return refusedRevoked
	}
	if p.service {
		if strings.HasPrefix(topic, "$") || topic == "" {
			return refusedTopic
		}
		return allowed
	}
	t, err := schemas.ParseTopic(topic)
	if err != nil {
		return outside(topic)
	}
	return p.mayTell(t, retain, size)
}

// mayTell is mayPublish for a topic of the contract.
func (p *principal) mayTell(t schemas.Topic, retain bool, size int) refusal {
	switch {
	case !t.Kind.FromDevice():
		return refusedSide
	case p.party(t) != allowed:
		return p.party(t)
	case retain && !t.Kind.Retained():
		return refusedRetain
	case size > t.Kind.MaxPayload():
		return refusedSize
	}
	return allowed
}

// mayRead decides on a delivery or a subscription without wildcards. A device
// reads what the service says to it and nothing else, not even its own words.
func (p *principal) mayRead(topic string) refusal {
	if p.revoked.Load() {
		return refusedRevoked
	}
	if p.service {
		return allowed
	}
	if p.claimant == nil && isStream(topic) {
		return allowed // who knows the image's SHA-256 was offered the image
	}
	t, err := schemas.ParseTopic(topic)
	switch {
	case err != nil:
		return outside(topic)
	case t.Kind.FromDevice():
		return refusedSide
	}
	return p.party(t)
}

// party decides whether the principal is one that the topic is for. About its password a
// principal talks under its own name, a bridge as well; about claims only those do who have
// nothing but a claim's token, and they about nothing else.
func (p *principal) party(t schemas.Topic) refusal {
	mine := p.owns(t.Device)
	switch about := t.Kind; {
	case p.claimant != nil && (about == schemas.KindClaim || about == schemas.KindClaimed):
		mine = t.Device == p.claimant.device
	case p.claimant != nil || about == schemas.KindClaim || about == schemas.KindClaimed:
		return refusedKind
	case about == schemas.KindRotate || about == schemas.KindRotated:
		mine = t.Device == p.name
	}
	if !mine {
		return refusedDevice
	}
	return allowed
}

// maySubscribe decides on a subscription filter.
func (p *principal) maySubscribe(filter string) refusal {
	if p.service {
		if strings.HasPrefix(filter, "$") && !isShared(filter) {
			return refusedTopic
		}
		return allowed
	}
	if tooLong(filter) {
		return refusedLength
	}
	if strings.ContainsAny(filter, "+#") || isShared(filter) {
		return refusedWildcard
	}
	return p.mayRead(filter)
}

// mayName is how many filters one SUBSCRIBE may have: a principal has use for six of
// each of its devices.
func (p *principal) mayName() int { return 64 + 8*len(p.devices) }

// extraStreams is how many streams of images a connection may follow beside one
// for each of its devices: names of streams cost nothing to make up.
const extraStreams = 8

// mayFollow decides on the subscription to an image's stream by a connection
// which follows some.
func (p *principal) mayFollow(streams int) refusal {
	if !p.service && streams >= len(p.devices)+extraStreams {
		return refusedStreams
	}
	return allowed
}

func isStream(topic string) bool {
	_, ok := schemas.ParseStreamTopic(topic)
	return ok
}

const sharePrefix = "$share/"

// isShared recognises shared subscriptions the way mochi does, whatever the case.
func isShared(filter string) bool {
	return len(filter) >= len(sharePrefix) && strings.EqualFold(filter[:len(sharePrefix)], sharePrefix)
}

// subscriptions remembers what each filter of one connection was granted;
// mochi is told QoS 0 for all of them.
type subscriptions struct {
	mu    sync.Mutex
	exact *grants // nil without any
	wild  *grants // filters with wildcards or shared

	streams int32         // how many of exact are streams of images
	changes atomic.Uint32 // goes up whenever anything here has changed
}

func (s *subscriptions) grant(filter string, g grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &s.exact
	if strings.ContainsAny(filter, "+#") || isShared(filter) {
		m = &s.wild
	}
	if *m == nil {
		*m = &grants{}
	}
	(*m).set(filter, g)
	s.changes.Add(1)
}

// follow grants the subscription to an image's stream, unless p may not follow
// one more.
func (s *subscriptions) follow(p *principal, topic string, g grant) refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exact == nil {
		s.exact = &grants{}
	}
	if _, again := s.exact.find(topic); !again {
		if r := p.mayFollow(int(s.streams)); r != allowed {
			return r
		}
		s.streams++
	}
	s.exact.set(topic, g)
	s.changes.Add(1)
	return allowed
}

func (s *subscriptions) drop(filter string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.exact.find(filter); ok && isStream(filter) {
		s.streams--
	}
	s.exact.drop(filter)
	s.wild.drop(filter)
	s.changes.Add(1)
}

// unsubscribe takes a connection that has ended out of the index.
func (c *conn) unsubscribe() {
	c.sub.mu.Lock()
	defer c.sub.mu.Unlock()
	for topic := range c.sub.exact.all {
		c.broker.index.remove(topic, c)
	}
}

// find returns the subscription whose filter is the topic itself.
func (s *subscriptions) find(topic string) (grant, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exact.find(topic)
}

// qos is the highest QoS granted for topic. Filters with wildcards are not
// matched against it one by one: the highest of them counts.
func (s *subscriptions) qos(topic string) byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	exact, _ := s.exact.find(topic)
	q := exact.qos
	for _, w := range s.wild.all {
		q = max(q, w.qos)
	}
	return q
}
