package afpro

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// TestEncoderLimits: nothing is written when something does not fit.
func TestEncoderLimits(t *testing.T) {
	dst := []byte("kept")
	message := func(typ MessageType, n int) func() ([]byte, error) {
		return func() ([]byte, error) { return AppendMessage(dst, Message{Type: typ, Value: make([]byte, n)}) }
	}
	for _, tc := range []struct {
		name string
		call func() ([]byte, error)
		want error
	}{
		{"UPDATE, value too long by 1", message(Update, MaxValue+1), ErrTooLong},
		{"SET, value too long by 1", message(Set, MaxValue+1), ErrTooLong},
		{"SET DEFAULT, 64 KiB", message(SetDefault, 1<<16), ErrTooLong},
		{"unknown type", message(0x0e, 0), ErrMessageType},
		{"type 0", message(0, 3), ErrMessageType},
		{"chunk without data", func() ([]byte, error) { return AppendTransfer(dst, 0, nil) }, ErrValue},
		{"chunk too long by 1", func() ([]byte, error) { return AppendTransfer(dst, 0, make([]byte, ChunkSize(MaxAttributeSize)+1)) }, ErrTooLong},
		{"OTA state 6", func() ([]byte, error) { return AppendInfo(dst, ChannelToASR, Info{State: 6}) }, ErrValue},
		{"OTA state 255", func() ([]byte, error) { return AppendInfo(dst, ChannelToMCU, Info{State: 255}) }, ErrValue},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.call()
			if !errors.Is(err, tc.want) {
				t.Errorf("error is %v, want %v", err, tc.want)
			}
			if string(got) != "kept" {
				t.Errorf("wrote %q", got)
			}
		})
	}
}

// TestLongest: the longest of each is written and read, and a sync message can
// count its bytes.
func TestLongest(t *testing.T) {
	value := bytes.Repeat([]byte{0xa5}, MaxValue)
	for _, typ := range []MessageType{Set, Update, SetDefault} {
		b, err := AppendMessage(nil, Message{Type: typ, Value: value})
		if err != nil || len(b) > 0xffff {
			t.Fatalf("%v: %d bytes, %v", typ, len(b), err)
		}
		if m, err := ParseMessage(b); err != nil || !bytes.Equal(m.Value, value) {
			t.Errorf("%v: a value of %d bytes came back with %d, %v", typ, MaxValue, len(m.Value), err)
		}
	}
	b, err := AppendTransfer(nil, 0, value[:ChunkSize(MaxAttributeSize)])
	if err != nil || len(b) != 0xffff || MaxMessage(MaxAttributeSize) != 0xffff {
		t.Errorf("the longest chunk makes a message of %d bytes, %v", len(b), err)
	}
}

// TestValueIsPartOfTheMessage: it is not copied, and appending to it does not
// write behind it.
func TestValueIsPartOfTheMessage(t *testing.T) {
	b, err := AppendMessage(make([]byte, 0, 64), Message{Type: Set, Value: []byte("abc")})
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] = 'd'
	if string(m.Value) != "abd" {
		t.Errorf("the value is %q", m.Value)
	}
	if longer := append(m.Value, 'x'); b[:len(b)+1][len(b)] == 'x' {
		t.Errorf("appending wrote behind the message: %q", longer)
	}
}

// TestMessagesCarryOnlyWhatTheirTypeHas: other fields are not sent.
func TestMessagesCarryOnlyWhatTheirTypeHas(t *testing.T) {
	all := Message{Request: 1, Attribute: 2, State: 3, Reason: 4, Value: []byte{5}}
	for typ, want := range map[MessageType]string{
		Set:            "07 00 0b 01 02 00 01 00 05",
		Get:            "04 00 0c 01 02 00",
		Update:         "09 00 0d 01 02 00 03 04 01 00 05",
		UpdateRejected: "06 00 29 01 02 00 03 04",
		SetDefault:     "07 00 2a 01 02 00 01 00 05",
	} {
		m := all
		m.Type = typ
		if b, err := AppendMessage(nil, m); err != nil || fmt.Sprintf("% x", b) != want {
			t.Errorf("%v: % x, %v, want %s", typ, b, err, want)
		}
	}
}

// TestSizes holds the figures of docs/afero-wire.md sections 5 and 6.
func TestSizes(t *testing.T) {
	for _, tc := range []struct{ attribute, chunk, message int }{
		{DefaultAttributeSize, 249, 265}, {253, 249, 265}, {510, 506, 522}, {2046, 2042, 2058}, {MinAttributeSize, 1, 17},
	} {
		if c, m := ChunkSize(tc.attribute), MaxMessage(tc.attribute); c != tc.chunk || m != tc.message {
			t.Errorf("attribute of %d bytes: chunk %d, message %d, want %d and %d", tc.attribute, c, m, tc.chunk, tc.message)
		}
	}
}

// TestErrorsSay: what a person reads about a value.
func TestErrorsSay(t *testing.T) {
	of := func(_ any, err error) error { return err }
	third := func(_, _ any, err error) error { return err }
	offset, data, transfer := ParseTransfer(make([]byte, 4))
	attribute, value, tunnel := ParseTunnel(make([]byte, 1))
	for want, err := range map[string]error{
		"1 bytes, a 16-bit integer has 2":                              of(ParseUint16(make([]byte, 1))),
		"7 bytes, a 64-bit integer has 8":                              of(ParseUint64(make([]byte, 7))),
		"OTA info of 34 bytes":                                         of(ParseInfo(make([]byte, 34))),
		"OTA state 7":                                                  of(ParseInfo([]byte{7})),
		"VERIFY of 2 bytes, it has 33":                                 of(ParseInfo([]byte{3, 0})),
		"BEGIN of 14 bytes, it has 15":                                 of(ParseInfo(append([]byte{1}, make([]byte, 13)...))),
		"APPLY of 1 bytes, it has 9":                                   of(ParseInfo([]byte{4})),
		"3 bytes, an offset has 4":                                     of(ParseNext(make([]byte, 3))),
		"a chunk without data":                                         of(AppendTransfer(nil, 0, nil)),
		"a chunk of 4 bytes, its offset has 4":                         third(offset, data, transfer),
		"1 bytes, a channel's value begins with the 2 of an attribute": third(attribute, value, tunnel),
	} {
		if err == nil || err.Error() != "afpro: not a value of its attribute: "+want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestNames holds the names and numbers of docs/afero-wire.md sections 2 to 5.
func TestNames(t *testing.T) {
	for value, name := range map[fmt.Stringer]string{
		SyncType(0x30): "sync", SyncType(0x31): "sync ack", SyncType(0x05): "sync type 0x05",

		MessageType(0x0b): "SET", MessageType(0x0c): "GET", MessageType(0x0d): "UPDATE", MessageType(0x29): "UPDATE REJECTED",
		MessageType(0x2a): "SET DEFAULT", MessageType(0x0e): "message type 0x0e",

		State(0): "updated", State(1): "interrupted", State(2): "unknown attribute", State(3): "length exceeded", State(4): "conflict",
		State(5): "timeout", State(6): "forbidden", State(7): "queue full", State(8): "state 8", State(255): "state 255",

		Reason(0): "unknown", Reason(1): "unsolicited", Reason(2): "answer to a service SET", Reason(3): "answer to an MCU SET",
		Reason(7): "module rebooted", Reason(0x0b): "answer to GET", Reason(4): "reason 0x04", Reason(255): "reason 0xff",

		InfoState(0): "IDLE", InfoState(1): "BEGIN", InfoState(2): "TRANSFER_END", InfoState(3): "VERIFY", InfoState(4): "APPLY",
		InfoState(5): "FAIL", InfoState(6): "OTA state 6", InfoState(255): "OTA state 255",

		Attribute(1098): "channel to MCU", Attribute(1099): "channel to ASR", Attribute(1206): "ASR capabilities",
		Attribute(1207): "afLib capabilities", Attribute(1208): "ASR protocol version", Attribute(1209): "MCU protocol version",
		Attribute(1301): "OTA info", Attribute(1302): "OTA transfer", Attribute(2003): "application version",
		Attribute(65012): "system command", Attribute(65013): "ASR state", Attribute(2101): "version of type 101",
		Attribute(2200): "version of type 200", Attribute(2100): "attribute 2100", Attribute(2201): "attribute 2201",
		Attribute(0): "attribute 0", Attribute(65535): "attribute 65535",
	} {
		if value.String() != name {
			t.Errorf("%T %v is %q, want %q", value, value, value.String(), name)
		}
	}
}
