package schemas

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzDecode: never panics; what the code takes, the schema takes as well; what
// was taken can be sent again, unless escapes make it too long, and is the same
// when it arrives.
func FuzzDecode(f *testing.F) {
	compiled := compileSchemas(f)
	kinds := allKinds()
	for _, file := range []string{"accepted.json", "refused.json", "refused_by_code_only.json"} {
		for _, c := range readCases(f, file) {
			for i, k := range kinds {
				if k == c.Kind {
					f.Add(byte(i), c.bytes(f))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, raw []byte) {
		k := kinds[int(kind)%len(kinds)]
		p := newPayload(k)
		if p == nil {
			return
		}
		if err := Decode(raw, p); err != nil {
			if !errors.Is(err, ErrPayload) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if err := bySchema(compiled[k], raw); err != nil {
			t.Fatalf("the code takes what the schema refuses: %v", err)
		}
		again, err := Encode(p)
		if err != nil {
			if p.Validate() == nil {
				return // too long
			}
			t.Fatalf("taken, but not to be sent: %v", err)
		}
		back := newPayload(k)
		if err := Decode(again, back); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if third, err := Encode(back); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%s became %s, %v", again, third, err)
		}
	})
}

// FuzzParseChunk: never panics, and a chunk is its header and its data.
func FuzzParseChunk(f *testing.F) {
	for _, h := range []ChunkHeader{{}, {Flags: ChunkFlagLast, Transfer: 9, Image: 0xde2f2560, Offset: 65535}, {Offset: MaxImageSize - 1}, {Flags: 2}} {
		f.Add(append(h.AppendTo(nil), 0))
		f.Add(h.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, data, err := ParseChunk(raw)
		if err != nil {
			if !errors.Is(err, ErrChunk) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if len(data) < 1 || len(data) > MaxChunkSize || h.Offset+uint64(len(data)) > MaxImageSize {
			t.Fatalf("%+v with %d bytes", h, len(data))
		}
		if again := append(h.AppendTo(nil), data...); !bytes.Equal(again, raw) {
			t.Fatalf("% x became % x", raw, again)
		}
	})
}

// FuzzParseTopic: never panics, and a topic is what it is made of.
func FuzzParseTopic(f *testing.F) {
	for _, s := range []string{"davit/v1/pump-7/offer", "davit/v1/+/offer", "davit/v1//ack", "davit/v2/a/ack", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		topic, err := ParseTopic(s)
		if err != nil {
			if !errors.Is(err, ErrTopic) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if topic.String() != s || ValidateID(topic.Device) != nil {
			t.Fatalf("%q became %q", s, topic)
		}
	})
}
