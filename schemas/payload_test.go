package schemas

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// TestRefused: what a JSON Schema can say, schema and code say alike.
func TestRefused(t *testing.T) {
	compiled := compileSchemas(t)
	cases := readCases(t, "refused.json")
	if len(cases) < 60 {
		t.Errorf("%d cases, at least 60 are wanted", len(cases))
	}
	for _, c := range cases {
		t.Run(string(c.Kind)+" "+c.Name, func(t *testing.T) {
			if err := Decode(c.bytes(t), newPayload(c.Kind)); !errors.Is(err, ErrPayload) {
				t.Errorf("the code says %v", err)
			}
			if err := bySchema(compiled[c.Kind], c.bytes(t)); err == nil {
				t.Error("the schema accepts it")
			}
		})
	}
}

// TestRefusedByCodeOnly: what a JSON Schema cannot say, only the code refuses.
// Should a schema come to refuse one of these, it belongs in the other table.
func TestRefusedByCodeOnly(t *testing.T) {
	compiled := compileSchemas(t)
	for _, c := range readCases(t, "refused_by_code_only.json") {
		t.Run(string(c.Kind)+" "+c.Name, func(t *testing.T) {
			if err := Decode(c.bytes(t), newPayload(c.Kind)); !errors.Is(err, ErrPayload) {
				t.Errorf("the code says %v", err)
			}
			if err := bySchema(compiled[c.Kind], c.bytes(t)); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
		})
	}
}

// TestAccepted: the limits themselves are allowed, by schema and code.
func TestAccepted(t *testing.T) {
	compiled := compileSchemas(t)
	for _, c := range readCases(t, "accepted.json") {
		t.Run(string(c.Kind)+" "+c.Name, func(t *testing.T) {
			if err := Decode(c.bytes(t), newPayload(c.Kind)); err != nil {
				t.Errorf("the code refuses it: %v", err)
			}
			if err := bySchema(compiled[c.Kind], c.bytes(t)); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
		})
	}
}

// TestErrorsNameTheField: a person can find what is wrong.
func TestErrorsNameTheField(t *testing.T) {
	for _, c := range []struct {
		p    Payload
		raw  string
		want string
	}{
		{&Hello{}, `{"v":1,"colour":"red"}`, `unknown field "colour" in the payload`},
		{&Offer{}, `{"v":1,"chunk":{"Max":1}}`, `unknown field "Max" in chunk`},
		{&Fetch{}, `{"v":1,"ranges":[{"offset":0}]}`, `field "length" is missing in an entry of ranges`},
		{&Presence{}, `{"v":1}`, `field "online" is missing`},
		{&Hello{}, `{"v":1,"v":1}`, `field "v" stands twice`},
		{&Hello{}, `{"v":1,"module":null}`, `module is null`},
		{&Hello{}, `{"v":1,"module":[1]}`, `module is a list`},
		{&Fetch{}, `{"v":1,"ranges":{}}`, `ranges is an object`},
		{&Hello{}, `{"v":2}`, `v is 2, this is version 1`},
		{&Profile{}, `{"v":1,"device_type":"pump","dialect":"ayla","version_properties":["a","a"]}`, `"a" stands twice in version_properties`},
		{&Offer{}, oneOffer(`"action":"soon"`), `unknown action "soon"`},
		{&Offer{}, oneOffer(`"action":"confirm","defer_until":"2027-01-01T00:00:00Z"`), `defer_until stands with action soft only, not with "confirm"`},
		{&Status{}, oneStatus(`"state":"rejected","cause":"deferred"`), `defer_s is 0, with cause deferred 1 to 2592000 are allowed`},
		{&Status{}, oneStatus(`"state":"failed","cause":"deferred","defer_s":1`), `state failed with cause deferred`},
		{&Status{}, oneStatus(`"state":"rejected","cause":"rejected","defer_s":1`), `defer_s is 1 with cause "rejected"`},
		{&Hello{}, `{"v":1,"max_chunk":1}`, `max_chunk is 1, allowed are 64 to 131072`},
	} {
		if err := Decode([]byte(c.raw), c.p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.raw, err, c.want)
		}
	}
}

// oneOffer and oneStatus are payloads with some more fields.
func oneOffer(fields string) string {
	return `{"v":1,"execution":"ex-1","attempt":1,"image":"img-1","image_type":"application","version":"2.1.0","size":65536,` +
		`"sha256":"de2f256064a0af797747c2b97505dc0b9f3df0de4f489eac731c23ae9ca9cc31","chunk":{"preferred":4096,"max":65536},"host":{},` + fields + `}`
}

func oneStatus(fields string) string {
	return `{"v":1,"execution":"ex-1","attempt":1,"seq":1,` + fields + `}`
}

// TestPlainOfferIsAsEver: an offer to install is, byte for byte, what modules get
// that know of no action.
func TestPlainOfferIsAsEver(t *testing.T) {
	o := Offer{
		V: Version, Execution: "ex-1", Attempt: 1, Image: "img-1", ImageType: "application", Version: "2.1.0", VersionID: 7, Size: 65536,
		SHA256: "de2f256064a0af797747c2b97505dc0b9f3df0de4f489eac731c23ae9ca9cc31", Chunk: ChunkHint{Preferred: 4096, Max: 65536},
		Host:  HostHint{Dialect: "ayla", VersionProperty: "oem_host_version", BootTimeoutMS: 60_000},
		Force: true, Manifest: "9f64a747e1b97f131fabb6b447296c9b6f0201e79fb3c5356e6c77e89b6a806a", ManifestSize: 11000, Expires: time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC), Action: ActionInstall,
	}
	const want = `{"v":1,"execution":"ex-1","attempt":1,"image":"img-1","image_type":"application","version":"2.1.0","version_id":7,"size":65536,` +
		`"sha256":"de2f256064a0af797747c2b97505dc0b9f3df0de4f489eac731c23ae9ca9cc31","chunk":{"preferred":4096,"max":65536},` +
		`"host":{"dialect":"ayla","version_property":"oem_host_version","boot_timeout_ms":60000},"force":true,"manifest":"9f64a747e1b97f131fabb6b447296c9b6f0201e79fb3c5356e6c77e89b6a806a","manifest_size":11000,"expires":"2027-01-31T12:00:00Z"}`
	if got, err := Encode(&o); err != nil || string(got) != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
	for a, deferrable := range map[Action]bool{ActionInstall: false, ActionSoft: true, ActionConfirm: true, ActionDownload: false} {
		if !a.Valid() || a.Deferrable() != deferrable {
			t.Errorf("%q: valid %t, deferrable %t", a, a.Valid(), a.Deferrable())
		}
	}
}

// TestEncodeKeepsToTheLimit: nothing leaves that Decode would refuse unread.
func TestEncodeKeepsToTheLimit(t *testing.T) {
	h := Hello{V: Version, HostVersions: map[string]string{}}
	for i := range MaxHostVersions {
		h.HostVersions[fmt.Sprintf("%0255d", i)] = strings.Repeat("<", MaxVersionLength)
	}
	if err := h.Validate(); err != nil {
		t.Fatal(err)
	}
	if b, err := Encode(&h); !errors.Is(err, ErrPayload) || b != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := Encode(&Ack{}); !errors.Is(err, ErrPayload) {
		t.Errorf("an empty ack: %v", err)
	}
	if _, err := Encode(&Profile{V: Version, DeviceType: "pump", Dialect: "ayla"}); !errors.Is(err, ErrPayload) {
		t.Errorf("a profile whose list would be null: %v", err)
	}
}

func drawText(t *rapid.T, label string, minBytes, maxBytes int) string {
	printable := rapid.Rune().Filter(func(r rune) bool { return !unicode.IsControl(r) && utf8.ValidRune(r) })
	return rapid.StringOfN(printable, min(minBytes, 1), -1, maxBytes).Draw(t, label)
}

func drawID(t *rapid.T, label string) string {
	return rapid.StringMatching(`[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}`).Draw(t, label)
}

func drawChunkSize(t *rapid.T, label string) int {
	return rapid.IntRange(MinChunkSize, MaxChunkSize).Draw(t, label)
}

func drawAttempt(t *rapid.T) int       { return rapid.IntRange(1, MaxAttempt).Draw(t, "attempt") }
func drawSeq(t *rapid.T) uint64        { return rapid.Uint64Range(1, MaxSeq).Draw(t, "seq") }
func maybe(t *rapid.T, of string) bool { return rapid.Bool().Draw(t, "has "+of) }

func drawHello(t *rapid.T) Payload {
	h := &Hello{V: Version, Module: drawText(t, "module", 0, 128), Dialect: drawText(t, "dialect", 0, MaxDialectLength)}
	if maybe(t, "device type") {
		h.DeviceType = drawID(t, "device type")
	}
	for range rapid.IntRange(0, 4).Draw(t, "host versions") {
		if h.HostVersions == nil {
			h.HostVersions = map[string]string{}
		}
		h.HostVersions[drawText(t, "property", 1, 40)] = drawText(t, "version", 0, MaxVersionLength)
	}
	h.Streams = maybe(t, "streams")
	if maybe(t, "max chunk") {
		h.MaxChunk = drawChunkSize(t, "max chunk")
	}
	if maybe(t, "execution") {
		h.Execution, h.Attempt = drawID(t, "execution"), drawAttempt(t)
	}
	return h
}

func drawOffer(t *rapid.T) Payload {
	most := drawChunkSize(t, "max")
	ms := rapid.Int64Range(0, maxHintMS)
	o := &Offer{
		V: Version, Execution: drawID(t, "execution"), Attempt: drawAttempt(t), Image: drawID(t, "image"),
		ImageType: drawID(t, "image type"), Version: drawText(t, "version", 1, MaxVersionLength),
		VersionID: rapid.Uint64Range(0, MaxVersionID).Draw(t, "version id"), Size: rapid.Uint64Range(1, MaxImageSize).Draw(t, "size"),
		SHA256: rapid.StringMatching(`[0-9a-f]{64}`).Draw(t, "sha256"),
		Chunk:  ChunkHint{Preferred: rapid.IntRange(MinChunkSize, most).Draw(t, "preferred"), Max: most},
		Host: HostHint{
			VersionProperty: drawText(t, "property", 0, MaxVersionLength), AnswerTimeoutMS: ms.Draw(t, "answer"),
			VerdictTimeoutMS: ms.Draw(t, "verdict"), BootTimeoutMS: ms.Draw(t, "boot"), VersionTimeoutMS: ms.Draw(t, "report"),
			Dialect: drawText(t, "dialect", 0, MaxDialectLength),
		},
		Force: rapid.Bool().Draw(t, "force"),
	}
	if maybe(t, "number") {
		o.Host.NumericType = rapid.IntRange(MinNumericType, MaxNumericType).Draw(t, "number")
		o.Host.AttributeSize = rapid.IntRange(MinAttributeSize, MaxAttributeSize).Draw(t, "attribute size")
	}
	if maybe(t, "manifest") {
		o.Manifest, o.ManifestSize = rapid.StringMatching(`[0-9a-f]{64}`).Draw(t, "manifest"), rapid.Uint64Range(1, MaxManifestSize).Draw(t, "manifest size")
	}
	if maybe(t, "expires") {
		o.Expires = time.Unix(rapid.Int64Range(0, 1<<37).Draw(t, "expires"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")).UTC()
	}
	o.Stream = maybe(t, "stream")
	o.Action = rapid.SampledFrom([]Action{ActionInstall, ActionSoft, ActionConfirm, ActionDownload}).Draw(t, "action")
	if o.Action == ActionSoft && maybe(t, "defer until") {
		o.DeferUntil = time.Unix(rapid.Int64Range(0, 1<<37).Draw(t, "defer until"), 0).UTC()
	}
	return o
}

func drawFetch(t *rapid.T) Payload {
	f := &Fetch{V: Version, Image: drawID(t, "image"), Tag: rapid.Uint16().Draw(t, "tag"), Chunk: drawChunkSize(t, "chunk")}
	var end uint64
	for left := min(MaxWindow, MaxAwaited/f.Chunk); left > 0; {
		n := rapid.IntRange(1, left).Draw(t, "chunks")
		r := Range{
			Offset: end + rapid.Uint64Range(0, 1<<27).Draw(t, "gap"),
			Length: rapid.Uint64Range(uint64(f.Chunk)*uint64(n-1)+1, uint64(f.Chunk)*uint64(n)).Draw(t, "length"),
		}
		f.Ranges = append(f.Ranges, r)
		end, left = r.End(), left-n
		if !maybe(t, "another range") {
			break
		}
	}
	room := MaxAwaited
	for _, r := range f.Ranges {
		room -= int(r.Length)
	}
	f.Awaited = rapid.IntRange(0, room).Draw(t, "awaited")
	f.Follow = maybe(t, "follow")
	return f
}

func drawStatus(t *rapid.T) Payload {
	s := &Status{
		V: Version, Execution: drawID(t, "execution"), Attempt: drawAttempt(t), Seq: drawSeq(t),
		State:     rapid.SampledFrom(States()).Filter(State.Reportable).Draw(t, "state"),
		BytesDone: rapid.Uint64Range(0, MaxImageSize).Draw(t, "bytes done"), Code: rapid.IntRange(0, 255).Draw(t, "code"),
		Detail: drawText(t, "detail", 0, MaxDetailLength), HostVersion: drawText(t, "host version", 0, MaxVersionLength),
	}
	switch {
	case s.State == StateSucceeded:
		s.HostVersion = drawText(t, "new version", 1, MaxVersionLength)
	case s.State.Final():
		s.Cause = rapid.SampledFrom(Causes()).Draw(t, "cause")
		if s.Cause == CauseDeferred {
			s.State, s.DeferS = StateRejected, rapid.IntRange(1, MaxDeferS).Draw(t, "defer")
		}
	}
	return s
}

func drawAck(t *rapid.T) Payload {
	return &Ack{
		V: Version, Execution: drawID(t, "execution"), Attempt: drawAttempt(t), Seq: drawSeq(t),
		State: rapid.SampledFrom(States()).Draw(t, "state"), Superseded: rapid.Bool().Draw(t, "superseded"),
	}
}

func drawProfile(t *rapid.T) Payload {
	property := rapid.Custom(func(t *rapid.T) string { return drawText(t, "property", 1, 40) })
	return &Profile{
		V: Version, DeviceType: drawID(t, "device type"), Dialect: drawText(t, "dialect", 1, MaxDialectLength),
		VersionProperties: rapid.SliceOfNDistinct(property, 0, MaxVersionProperties, rapid.ID).Draw(t, "properties"),
	}
}

func drawNonce(t *rapid.T) string {
	return rapid.StringMatching(`[A-Za-z0-9._-]{16,64}`).Draw(t, "nonce")
}

func drawClaim(t *rapid.T) Payload {
	c := &Claim{V: Version, Nonce: drawNonce(t)}
	if rapid.Bool().Draw(t, "more") {
		c.DeviceType = drawID(t, "device type")
		c.HostVersions = map[string]string{drawText(t, "property", 1, 40): drawText(t, "version", 0, 40)}
	}
	return c
}

func drawClaimed(t *rapid.T) Payload {
	if rapid.Bool().Draw(t, "granted") {
		return &Claimed{V: Version, Nonce: drawNonce(t), Device: drawID(t, "device"), Password: drawText(t, "password", 1, MaxPasswordLength)}
	}
	c := &Claimed{V: Version, Error: rapid.SampledFrom(RequestErrors()).Draw(t, "error"), Detail: drawText(t, "detail", 0, 100)}
	if rapid.Bool().Draw(t, "with nonce") {
		c.Nonce = drawNonce(t)
	}
	return c
}

func drawRotated(t *rapid.T) Payload {
	switch rapid.IntRange(0, 2).Draw(t, "which") {
	case 0:
		return &Rotated{V: Version, Due: true}
	case 1:
		return &Rotated{V: Version, Nonce: drawNonce(t), Error: rapid.SampledFrom(RequestErrors()).Draw(t, "error"), Detail: drawText(t, "detail", 0, 100)}
	}
	return &Rotated{V: Version, Nonce: drawNonce(t), Password: drawText(t, "password", 1, MaxPasswordLength),
		Expires: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "expires"), 0).UTC()}
}

// TestMarshalledValidates: whatever valid payload is marshalled, its schema
// accepts it and Decode gives it back.
func TestMarshalledValidates(t *testing.T) {
	compiled := compileSchemas(t)
	for kind, draw := range map[Kind]func(*rapid.T) Payload{
		KindHello: drawHello, KindOffer: drawOffer, KindFetch: drawFetch, KindStatus: drawStatus, KindAck: drawAck, KindProfile: drawProfile,
		KindClaim: drawClaim, KindClaimed: drawClaimed, KindRotated: drawRotated,
		KindRotate:   func(t *rapid.T) Payload { return &Rotate{V: Version, Nonce: drawNonce(t)} },
		KindPresence: func(t *rapid.T) Payload { return &Presence{V: Version, Online: rapid.Bool().Draw(t, "online")} },
	} {
		t.Run(string(kind), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				p := draw(t)
				raw, err := Encode(p)
				if err != nil {
					t.Fatal(err)
				}
				if err := bySchema(compiled[kind], raw); err != nil {
					t.Fatalf("the schema refuses %s: %v", raw, err)
				}
				back := newPayload(kind)
				if err := Decode(raw, back); err != nil {
					t.Fatalf("Decode refuses %s: %v", raw, err)
				}
				if !reflect.DeepEqual(p, back) {
					t.Fatalf("%+v became %+v", p, back)
				}
			})
		})
	}
}
