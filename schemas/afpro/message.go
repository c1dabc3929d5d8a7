package afpro

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// MessageType is the third byte of a message (docs/afero-wire.md section 3).
type MessageType byte

// The messages.
const (
	// Set, either direction: attribute, value. Answered by one Update.
	Set MessageType = 0x0b
	// Get, either direction: attribute. Answered by one Update.
	Get MessageType = 0x0c
	// Update, either direction: attribute, state, reason, value.
	Update MessageType = 0x0d
	// UpdateRejected, ASR to MCU: attribute, state, reason.
	UpdateRejected MessageType = 0x29
	// SetDefault, ASR to MCU: as Set.
	SetDefault MessageType = 0x2a
)

// String returns the message's name in the documents, or its number.
func (t MessageType) String() string {
	switch t {
	case Set:
		return "SET"
	case Get:
		return "GET"
	case Update:
		return "UPDATE"
	case UpdateRejected:
		return "UPDATE REJECTED"
	case SetDefault:
		return "SET DEFAULT"
	}
	return fmt.Sprintf("message type %#02x", byte(t))
}

// State says what became of an attribute (docs/afero-wire.md section 3).
type State byte

// The states.
const (
	StateUpdated          State = 0
	StateInterrupted      State = 1
	StateUnknownAttribute State = 2
	StateLengthExceeded   State = 3
	StateConflict         State = 4
	StateTimeout          State = 5
	StateForbidden        State = 6
	StateQueueFull        State = 7
)

// String returns a word or two for the state.
func (s State) String() string {
	names := [...]string{"updated", "interrupted", "unknown attribute", "length exceeded", "conflict", "timeout", "forbidden", "queue full"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state %d", byte(s))
}

// Reason says why an Update was sent (docs/afero-wire.md section 3).
type Reason byte

// The reasons.
const (
	ReasonUnknown     Reason = 0
	ReasonUnsolicited Reason = 1
	ReasonServiceSet  Reason = 2    // answer to a Set of the service
	ReasonMCUSet      Reason = 3    // answer to a Set of the MCU
	ReasonRebooted    Reason = 7    // the module rebooted
	ReasonGet         Reason = 0x0b // answer to a Get
)

// String returns a few words for the reason.
func (r Reason) String() string {
	switch r {
	case ReasonUnknown:
		return "unknown"
	case ReasonUnsolicited:
		return "unsolicited"
	case ReasonServiceSet:
		return "answer to a service SET"
	case ReasonMCUSet:
		return "answer to an MCU SET"
	case ReasonRebooted:
		return "module rebooted"
	case ReasonGet:
		return "answer to GET"
	}
	return fmt.Sprintf("reason %#02x", byte(r))
}

// Message is one attribute message.
type Message struct {
	Type      MessageType
	Request   byte // an answer carries the id of what it answers
	Attribute Attribute
	State     State  // of Update and UpdateRejected
	Reason    Reason // of Update and UpdateRejected
	Value     []byte // of Set, Update and SetDefault
}

// Sizes in bytes. The two bytes of a message's length are on the wire and in the
// counts of the sync messages, but do not count themselves.
const (
	lengthSize = 2
	headSize   = 4 // type, request id, attribute
	// UpdateOverhead is what an Update has beside its value, length included.
	UpdateOverhead = lengthSize + headSize + 4
	// MaxValue is the longest value that an Update on the wire can have: sync
	// messages count in 16 bits.
	MaxValue = math.MaxUint16 - UpdateOverhead
)

// Errors about a message.
var (
	ErrTooLong     = errors.New("afpro: the value is too long for a message")
	ErrShort       = errors.New("afpro: the message ends before its content")
	ErrLength      = errors.New("afpro: the message does not have the length that it says")
	ErrValueLength = errors.New("afpro: the value does not have the length that the message says")
	ErrMessageType = errors.New("afpro: unknown message type")
)

// AppendMessage appends m with its length in front. On an error dst comes back
// as it was.
func AppendMessage(dst []byte, m Message) ([]byte, error) {
	n, err := m.body()
	if err != nil {
		return dst, err
	}
	dst = binary.LittleEndian.AppendUint16(dst, uint16(n))
	dst = append(dst, byte(m.Type), m.Request)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(m.Attribute))
	if m.Type == Update || m.Type == UpdateRejected {
		dst = append(dst, byte(m.State), byte(m.Reason))
	}
	if m.Type == Get || m.Type == UpdateRejected {
		return dst, nil
	}
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(m.Value)))
	return append(dst, m.Value...), nil
}

// body is the length of a message without its first two bytes.
func (m Message) body() (int, error) {
	if len(m.Value) > MaxValue {
		return 0, ErrTooLong
	}
	switch m.Type {
	case Get:
		return headSize, nil
	case UpdateRejected:
		return headSize + 2, nil
	case Set, SetDefault:
		return headSize + 2 + len(m.Value), nil
	case Update:
		return UpdateOverhead - lengthSize + len(m.Value), nil
	}
	return 0, ErrMessageType
}

// ParseMessage reads one whole message, its length included. The value is a
// part of b.
func ParseMessage(b []byte) (Message, error) {
	if len(b) < lengthSize+headSize {
		return Message{}, ErrShort
	}
	if int(binary.LittleEndian.Uint16(b)) != len(b)-lengthSize {
		return Message{}, ErrLength
	}
	m := Message{Type: MessageType(b[2]), Request: b[3], Attribute: Attribute(binary.LittleEndian.Uint16(b[4:]))}
	rest := b[lengthSize+headSize:]
	switch m.Type {
	case Get:
		if err := exactly(rest, 0); err != nil {
			return Message{}, err
		}
		return m, nil
	case UpdateRejected:
		if err := exactly(rest, 2); err != nil {
			return Message{}, err
		}
		m.State, m.Reason = State(rest[0]), Reason(rest[1])
		return m, nil
	case Update:
		if len(rest) < 2 {
			return Message{}, ErrShort
		}
		m.State, m.Reason, rest = State(rest[0]), Reason(rest[1]), rest[2:]
	case Set, SetDefault:
	default:
		return Message{}, ErrMessageType
	}
	if len(rest) < 2 {
		return Message{}, ErrShort
	}
	n := int(binary.LittleEndian.Uint16(rest))
	if rest = rest[2:]; len(rest) != n {
		return Message{}, ErrValueLength
	}
	m.Value = rest[:n:n]
	return m, nil
}

func exactly(rest []byte, n int) error {
	switch {
	case len(rest) < n:
		return ErrShort
	case len(rest) > n:
		return ErrValueLength
	}
	return nil
}
