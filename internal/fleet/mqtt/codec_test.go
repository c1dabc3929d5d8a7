package mqtt

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"pgregory.net/rapid"

	"davit/schemas"
)

// TestPacketsAsPahoReadsThem has another implementation of MQTT 5 read what we write.
func TestPacketsAsPahoReadsThem(t *testing.T) {
	read := func(b []byte) any {
		t.Helper()
		p, err := packets.ReadPacket(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("% x: %v", b, err)
		}
		return p.Content
	}
	o := Options{
		Version: V5, ClientID: "pump-7", Username: "u", Password: "p", KeepAlive: 90*time.Second + 1, ReceiveMaximum: 9, MaxPacket: 70_000,
		Will: &Message{Topic: []byte("davit/v1/pump-7/presence"), Payload: []byte("bye"), QoS: 1, Retain: true},
	}
	c := read(appendConnect(nil, &o)).(*packets.Connect)
	if c.ClientID != "pump-7" || c.Username != "u" || string(c.Password) != "p" || c.KeepAlive != 91 || !c.CleanStart ||
		*c.Properties.ReceiveMaximum != 9 || *c.Properties.MaximumPacketSize != 70_000 ||
		c.WillTopic != "davit/v1/pump-7/presence" || string(c.WillMessage) != "bye" || c.WillQOS != 1 || !c.WillRetain {
		t.Errorf("CONNECT was read as %v", c)
	}
	bare := read(appendConnect(nil, &Options{Version: V5, ClientID: "x"})).(*packets.Connect)
	if bare.WillFlag || bare.UsernameFlag || bare.PasswordFlag || bare.KeepAlive != 0 {
		t.Errorf("CONNECT was read as %v", bare)
	}
	s := read(AppendSubscribe(nil, V5, 7, []Subscription{{"a", 0}, {"b/+", 1}})).(*packets.Subscribe)
	if s.PacketID != 7 || len(s.Subscriptions) != 2 || s.Subscriptions[1].Topic != "b/+" || s.Subscriptions[1].QoS != 1 {
		t.Errorf("SUBSCRIBE was read as %v", s)
	}
	u := read(AppendUnsubscribe(nil, V5, 8, "a/b")).(*packets.Unsubscribe)
	if u.PacketID != 8 || len(u.Topics) != 1 || u.Topics[0] != "a/b" {
		t.Errorf("UNSUBSCRIBE was read as %v", u)
	}
	p := read(AppendPublish(nil, V5, &Message{Topic: []byte("t"), Payload: []byte("data"), QoS: 1, ID: 300, Retain: true, Dup: true})).(*packets.Publish)
	if p.Topic != "t" || string(p.Payload) != "data" || p.QoS != 1 || p.PacketID != 300 || !p.Retain || !p.Duplicate {
		t.Errorf("PUBLISH was read as %v", p)
	}
	if a := read(AppendPuback(nil, 258)).(*packets.Puback); a.PacketID != 258 || a.ReasonCode != 0 {
		t.Errorf("PUBACK was read as %v", a)
	}
	read(AppendPingreq(nil))
}

func TestPublishRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SampledFrom([]Version{V311, V5}).Draw(t, "version")
		m := Message{
			Topic:   []byte(rapid.StringN(1, 50, 200).Draw(t, "topic")),
			Payload: rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload"),
			QoS:     rapid.ByteRange(0, 1).Draw(t, "qos"),
			Retain:  rapid.Bool().Draw(t, "retain"),
		}
		if m.QoS == 1 {
			m.ID = rapid.Uint16Min(1).Draw(t, "id")
		}
		b := AppendPublish([]byte("before"), v, &m)[len("before"):]
		for short := range b {
			if h, ok, err := ParseHeader(b[:short]); err != nil || ok && h.Size != len(b) {
				t.Fatalf("%d bytes: header %v, %v", short, h, err)
			}
		}
		h, ok, err := ParseHeader(b)
		if err != nil || !ok || h.Type != Publish || h.Size != len(b) {
			t.Fatalf("header %v, %v, %v", h, ok, err)
		}
		got, err := ParsePublish(v, h.Flags, b[h.Head:])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Topic, m.Topic) || !bytes.Equal(got.Payload, m.Payload) || got.QoS != m.QoS || got.Retain != m.Retain || got.ID != m.ID {
			t.Fatalf("got %v, want %v", got, m)
		}
	})
}

func TestRefusals(t *testing.T) {
	reason := func(code byte, props ...byte) []byte {
		return append([]byte{0x20, byte(3 + len(props)), 0, code, byte(len(props))}, props...)
	}
	user := func(name, value string) []byte {
		return appendString(appendString([]byte{propUserProperty}, name), value)
	}
	for _, tt := range []struct {
		name   string
		v      Version
		answer []byte
		busy   bool
		after  time.Duration
		text   string
	}{
		{"3.1.1 password", V311, []byte{0x20, 2, 0, 4}, false, 0, "the broker refused the connection: bad user name or password (code 0x04)"},
		{"3.1.1 unavailable", V311, []byte{0x20, 2, 0, 3}, true, 0, "the broker refused the connection: server unavailable (code 0x03)"},
		{"5 busy", V5, reason(0x89), true, 0, "the broker refused the connection: server busy (code 0x89)"},
		{"5 unavailable, advice", V5, reason(0x88, user(schemas.RetryAfterProperty, "1500")...), true, 1500 * time.Millisecond, "the broker refused the connection: server unavailable (code 0x88)"},
		{"5 advice that is none", V5, reason(0x88, user(schemas.RetryAfterProperty, "-1")...), true, 0, "the broker refused the connection: server unavailable (code 0x88)"},
		{"5 advice of a year", V5, reason(0x88, user(schemas.RetryAfterProperty, "4000000000")...), true, schemas.MaxRetryAfter, "the broker refused the connection: server unavailable (code 0x88)"},
		{"5 another property", V5, reason(0x97, user("x", "1500")...), true, 0, "the broker refused the connection: quota exceeded (code 0x97)"},
		{"5 reason", V5, reason(0x87, 0x1f, 0, 2, 'n', 'o'), false, 0, `the broker refused the connection: not authorized (code 0x87), "no"`},
		{"5 unknown code", V5, reason(0xee), false, 0, "the broker refused the connection: code 0xee"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Dial(t.Context(), Options{Addr: fakeBroker(t, nil, tt.answer), Version: tt.v, ClientID: "x"})
			var refused *RefusedError
			if !errors.As(err, &refused) {
				t.Fatalf("got %v", err)
			}
			if refused.Busy() != tt.busy || refused.RetryAfter != tt.after || refused.Error() != tt.text {
				t.Errorf("busy %v, retry after %v: %v", refused.Busy(), refused.RetryAfter, refused)
			}
		})
	}
}

func TestConnackSaysWhatIsAllowed(t *testing.T) {
	answer := []byte{0x20, 14, 0, 0, 11, propReceiveMaximum, 0, 10, propMaximumPacket, 0, 1, 0, 0, propServerKeep, 0, 20}
	answer = append(answer, 0xd0, 0) // a packet that comes with it is not lost
	c := dial(t, Options{Addr: fakeBroker(t, func(c io.Reader) {}, answer), Version: V5, ClientID: "x", KeepAlive: time.Hour})
	want := ConnectionAccepted{ReceiveMaximum: 10, MaxPacket: 65536, KeepAlive: 20 * time.Second, KeepAliveSet: true}
	if c.conn.Accepted != want {
		t.Errorf("got %+v", c.conn.Accepted)
	}
	if err := receive(t, c.ended, "end"); !errors.Is(err, io.EOF) {
		t.Errorf("Serve returned %v", err)
	}
}

// TestBrokenServers sends what a server may not.
func TestBrokenServers(t *testing.T) {
	for _, tt := range []struct {
		name string
		v    Version
		b    []byte
	}{
		{"a length of five bytes", V5, []byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}},
		{"a packet that is too long", V5, []byte{0x30, 0xff, 0xff, 0xff, 0x7f}},
		{"QoS 2", V311, []byte{0x34, 6, 0, 1, 'a', 0, 1, 'x'}},
		{"no packet id", V311, []byte{0x32, 6, 0, 1, 'a', 0, 0, 'x'}},
		{"topic beyond the packet", V311, []byte{0x30, 3, 0, 2, 'a'}},
		{"no topic", V5, []byte{0x30, 3, 0, 0, 0}},
		{"topic alias", V5, []byte{0x30, 7, 0, 1, 'a', 3, propTopicAlias, 0, 1}},
		{"unknown property", V5, []byte{0x30, 5, 0, 1, 'a', 1, 0x7f}},
		{"properties beyond the packet", V5, []byte{0x30, 4, 0, 1, 'a', 1}},
		{"a client's packet", V5, []byte{0x80, 0}},
		{"PUBACK too short", V5, []byte{0x40, 1, 0}},
		{"PUBACK too long", V311, []byte{0x40, 3, 0, 1, 0}},
		{"SUBACK without codes", V5, []byte{0x90, 3, 0, 1, 0}},
		{"DISCONNECT in 3.1.1", V311, []byte{0xe0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer := []byte{0x20, 2, 0, 0}
			if tt.v == V5 {
				answer = []byte{0x20, 3, 0, 0, 0}
			}
			c := dial(t, Options{Addr: fakeBroker(t, func(c io.Reader) { _, _ = io.Copy(io.Discard, c) }, append(answer, tt.b...)), Version: tt.v, ClientID: "x"})
			if err := receive(t, c.ended, "end"); !errors.Is(err, ErrProtocol) {
				t.Errorf("Serve returned %v", err)
			}
		})
	}
}

func TestServerDisconnects(t *testing.T) {
	b := []byte{0x20, 3, 0, 0, 0, 0xe0, 7, 0x8b, 5, 0x1f, 0, 2, 'g', 'o'}
	c := dial(t, Options{Addr: fakeBroker(t, nil, b), Version: V5, ClientID: "x"})
	var end *DisconnectedError
	if err := receive(t, c.ended, "end"); !errors.As(err, &end) || end.Code != 0x8b || end.Reason != "go" {
		t.Errorf("Serve returned %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(byte(5), AppendPublish(nil, V5, &Message{Topic: []byte("t"), Payload: []byte("x"), QoS: 1, ID: 9}))
	f.Add(byte(4), []byte{0x20, 2, 0, 3})
	f.Add(byte(5), []byte{0x20, 14, 0, 0, 11, propReceiveMaximum, 0, 10, propMaximumPacket, 0, 1, 0, 0, propServerKeep, 0, 20})
	f.Add(byte(5), []byte{0xe0, 7, 0x8b, 5, 0x1f, 0, 2, 'g', 'o'})
	f.Add(byte(5), []byte{0x90, 4, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, version byte, b []byte) {
		v := V311
		if version == byte(V5) {
			v = V5
		}
		h, ok, err := ParseHeader(b)
		if err != nil || !ok || h.Size > len(b) {
			return
		}
		body := b[h.Head:h.Size]
		switch h.Type {
		case Publish:
			m, err := ParsePublish(v, h.Flags, body)
			if err != nil {
				return
			}
			again := AppendPublish(nil, v, &m)
			h, _, err := ParseHeader(again)
			if err != nil {
				t.Fatal(err)
			}
			second, err := ParsePublish(v, h.Flags, again[h.Head:])
			if err != nil || !bytes.Equal(second.Topic, m.Topic) || !bytes.Equal(second.Payload, m.Payload) || second.ID != m.ID {
				t.Fatalf("%v became %v: %v", m, second, err)
			}
		case Connack:
			if _, err := parseConnack(v, body); err != nil && err.Error() == "" {
				t.Fatal("an error without words")
			}
		case Suback:
			if _, codes, err := ParseSuback(v, body); err == nil && len(codes) == 0 {
				t.Fatal("no codes")
			}
		case Puback:
			_, _, _ = ParsePuback(v, body)
		case Disconnect:
			if parseDisconnect(v, body) == nil {
				t.Fatal("a DISCONNECT is always an error")
			}
		}
	})
}
