package schemas

import (
	"errors"
	"fmt"
	"strings"
)

// MaxIDLength is the longest id in bytes.
const MaxIDLength = 64

// ErrID is wrapped by every error about a malformed id.
var ErrID = errors.New("malformed id")

// ValidateID checks the form that device, image type, device type, group, job,
// image and execution ids share: 1 to 64 characters of A-Z a-z 0-9 . _ -, and
// neither "." nor "..", so that an id is always one MQTT topic level and one
// path element.
func ValidateID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: empty", ErrID)
	case len(id) > MaxIDLength:
		return fmt.Errorf("%w: %d characters, at most %d are allowed", ErrID, len(id), MaxIDLength)
	case id == "." || id == "..":
		return fmt.Errorf("%w: %q is a path, not a name", ErrID, id)
	}
	for i := range len(id) {
		if !idByte(id[i]) {
			return fmt.Errorf("%w: %q at position %d of %q; allowed are A-Z a-z 0-9 . _ -", ErrID, id[i], i+1, id)
		}
	}
	return nil
}

func idByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

// Kind is the last level of a topic: which message of the contract it carries.
type Kind string

// The messages of a device's session.
const (
	KindHello    Kind = "hello"
	KindPresence Kind = "presence"
	KindOffer    Kind = "offer"
	KindFetch    Kind = "fetch"
	KindChunk    Kind = "chunk"
	KindStatus   Kind = "status"
	KindAck      Kind = "ack"
	KindProfile  Kind = "profile"
)

// The messages about credentials.
const (
	KindClaim   Kind = "claim"
	KindClaimed Kind = "claimed"
	KindRotate  Kind = "rotate"
	KindRotated Kind = "rotated"
)

// CredentialKinds lists the messages about credentials. They are asked and answered on
// one connection: the broker hands the request to the service with who sent it, and the
// answer to the connection that asked. So they are with the broker that is built in only,
// and nobody else can subscribe to them.
func CredentialKinds() []Kind { return []Kind{KindClaim, KindClaimed, KindRotate, KindRotated} }

// Answer is the message that answers a request for credentials, and "" for others.
func (k Kind) Answer() Kind {
	switch k {
	case KindClaim:
		return KindClaimed
	case KindRotate:
		return KindRotated
	}
	return ""
}

// Kinds lists every message of a device's session: those of the contract but
// CredentialKinds.
func Kinds() []Kind {
	return []Kind{KindHello, KindPresence, KindOffer, KindFetch, KindChunk, KindStatus, KindAck, KindProfile}
}

// FromDevice says who publishes the message: the device (or its bridge) if
// true, the service if false.
func (k Kind) FromDevice() bool {
	switch k {
	case KindHello, KindPresence, KindFetch, KindStatus, KindClaim, KindRotate:
		return true
	}
	return false
}

// QoS is the MQTT quality of service that the message is published with.
// Fetch and chunk are QoS 0 on purpose: the receiver knows what it is missing
// and asks again.
func (k Kind) QoS() byte {
	if k == KindFetch || k == KindChunk {
		return 0
	}
	return 1
}

// Retained says whether the message is published with the retain flag.
func (k Kind) Retained() bool { return k == KindPresence || k == KindOffer }

// MaxPayload is the largest payload in bytes that a conforming sender produces
// for the message; anything longer is refused unread.
func (k Kind) MaxPayload() int {
	switch k {
	case KindChunk:
		return ChunkHeaderSize + MaxChunkSize
	case KindPresence, KindAck, KindClaimed, KindRotate, KindRotated:
		return 1 << 10
	}
	return 8 << 10
}

// topicPrefix is the part of every topic before the device id.
const topicPrefix = "davit/v1/"

// streamLevel stands where other topics have a device's id; it is none.
const streamLevel = "@"

// ErrTopic is wrapped by every error about a topic outside the contract.
var ErrTopic = errors.New("topic outside the contract")

// Topic names one message of one device.
type Topic struct {
	Device string
	Kind   Kind
}

// String returns the topic as it stands in an MQTT packet, for example
// "davit/v1/pump-7/offer".
func (t Topic) String() string { return topicPrefix + t.Device + "/" + string(t.Kind) }

// ParseTopic is the inverse of Topic.String. It refuses wildcards, unknown
// kinds, other versions and malformed device ids.
func ParseTopic(s string) (Topic, error) {
	rest, ok := strings.CutPrefix(s, topicPrefix)
	if !ok {
		return Topic{}, fmt.Errorf("%w: does not begin with %s", ErrTopic, topicPrefix)
	}
	device, kind, ok := strings.Cut(rest, "/")
	if !ok {
		return Topic{}, fmt.Errorf("%w: no message after the device id", ErrTopic)
	}
	if err := ValidateID(device); err != nil {
		return Topic{}, fmt.Errorf("%w: %w", ErrTopic, err)
	}
	switch k := Kind(kind); k {
	case KindHello, KindPresence, KindOffer, KindFetch, KindChunk, KindStatus, KindAck, KindProfile, KindClaim, KindClaimed, KindRotate, KindRotated:
		return Topic{Device: device, Kind: k}, nil
	}
	return Topic{}, fmt.Errorf("%w: unknown message %q", ErrTopic, kind)
}

// StreamTopic is the topic of an image's shared stream: its chunks, with 0 as their
// transfer tag, for every device that follows it. It is subscribed to by its exact
// name only, which who was offered the image can make: the SHA-256 in lower-case
// hex is in no other place.
func StreamTopic(sha256 string) string { return topicPrefix + streamLevel + "/" + sha256 }

// ParseStreamTopic returns the SHA-256 of a topic that StreamTopic made.
func ParseStreamTopic(s string) (sha256 string, ok bool) {
	sum, ok := strings.CutPrefix(s, topicPrefix+streamLevel+"/")
	return sum, ok && validSHA256(sum) == nil
}

// Filter is the subscription filter for one kind of message of every device.
func Filter(k Kind) string { return topicPrefix + "+/" + string(k) }

// SharedFilter is Filter as a shared subscription: replicas of the service
// that use the same group divide the messages among them.
func SharedFilter(group string, k Kind) string { return "$share/" + group + "/" + Filter(k) }
