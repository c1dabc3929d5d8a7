package afpro

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unhex reads hex with blanks.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("bad hex in the test %q: %v", s, err)
	}
	return b
}

// readVectors reads a file of vectors and insists on unique names.
func readVectors[T interface{ name() string }](t testing.TB, file string) []T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "vectors", file))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var vectors []T
	if err := d.Decode(&vectors); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	names := map[string]bool{}
	for _, v := range vectors {
		if names[v.name()] {
			t.Errorf("%s: two vectors are named %q", file, v.name())
		}
		names[v.name()] = true
	}
	return vectors
}

// errorNames are the vectors' words for the errors.
var errorNames = map[string]error{
	"size": ErrSyncSize, "checksum": ErrChecksum, "short": ErrShort, "length": ErrLength, "value_length": ErrValueLength, "value": ErrValue,
}

// refused says whether err is the one that a vector names; "type" is a word of
// sync messages and of messages, with an error for each.
func refused(t *testing.T, err error, name string, ofType error) {
	t.Helper()
	want, ok := errorNames[name]
	if name == "type" {
		want, ok = ofType, true
	}
	if !ok {
		t.Fatalf("unknown reason %q", name)
	}
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want %v", err, want)
	}
}

type syncVector struct {
	Name, About, Bytes, Error string
	Want                      *struct {
		Type      SyncType
		MCU, ASR  uint16
		Collision bool
	}
}

func (v syncVector) name() string { return v.Name }

func TestSyncVectors(t *testing.T) {
	for _, v := range readVectors[syncVector](t, "sync.json") {
		t.Run(v.Name, func(t *testing.T) {
			raw := unhex(t, v.Bytes)
			got, err := ParseSync(raw)
			if v.Want == nil {
				refused(t, err, v.Error, ErrSyncType)
				if got != (Sync{}) {
					t.Errorf("%+v came with the error", got)
				}
				return
			}
			want := Sync{v.Want.Type, v.Want.MCU, v.Want.ASR}
			if err != nil || got != want || got.Collision() != v.Want.Collision {
				t.Fatalf("got %+v, collision %v, %v", got, got.Collision(), err)
			}
			if b := AppendSync([]byte("kept"), want); string(b) != "kept"+string(raw) {
				t.Errorf("encoded to % x, want % x", b[4:], raw)
			}
		})
	}
}

type messageVector struct {
	Name, About, Bytes, Error string
	Want                      *struct {
		Type      MessageType
		Request   byte
		Attribute Attribute
		State     State
		Reason    Reason
		Value     string
	}
	Uint16 *uint16
	Uint64 *uint64 `json:",string"`
}

func (v messageVector) name() string { return v.Name }

// sayMessage puts a message in one comparable line.
func sayMessage(m Message) string {
	return fmt.Sprintf("%v of %v, request %d, %v, %v, [% x]", m.Type, m.Attribute, m.Request, m.State, m.Reason, m.Value)
}

func TestMessageVectors(t *testing.T) {
	for _, v := range readVectors[messageVector](t, "messages.json") {
		t.Run(v.Name, func(t *testing.T) {
			raw := unhex(t, v.Bytes)
			got, err := ParseMessage(raw)
			if v.Want == nil {
				refused(t, err, v.Error, ErrMessageType)
				if sayMessage(got) != sayMessage(Message{}) {
					t.Errorf("%s came with the error", sayMessage(got))
				}
				return
			}
			w := v.Want
			want := Message{w.Type, w.Request, w.Attribute, w.State, w.Reason, unhex(t, w.Value)}
			if err != nil || sayMessage(got) != sayMessage(want) {
				t.Fatalf("got %s, %v, want %s", sayMessage(got), err, sayMessage(want))
			}
			b, err := AppendMessage([]byte("kept"), want)
			if err != nil || string(b) != "kept"+string(raw) {
				t.Errorf("encoded to % x, %v, want % x", b[4:], err, raw)
			}
			v.checkInteger(t, got.Value)
		})
	}
}

// checkInteger reads a value as the integer that the vector says it is, and as
// the other, which it is not.
func (v messageVector) checkInteger(t *testing.T, value []byte) {
	short, err16 := ParseUint16(value)
	long, err64 := ParseUint64(value)
	if (err16 == nil) != (len(value) == 2) || (err64 == nil) != (len(value) == 8) {
		t.Errorf("a value of %d bytes: %v, %v", len(value), err16, err64)
	}
	if v.Uint16 != nil && (err16 != nil || short != *v.Uint16) {
		t.Errorf("got %d, %v, want %d", short, err16, *v.Uint16)
	}
	if v.Uint64 != nil && (err64 != nil || long != *v.Uint64) {
		t.Errorf("got %d, %v, want %d", long, err64, *v.Uint64)
	}
}

type otaVector struct {
	Name, About, Reading, Message, Error string
	Want                                 *otaWant
	Canonical                            bool
}

// otaWant has the fields of every reading.
type otaWant struct {
	Channel   Attribute
	State     InfoState
	Type      uint16
	Size      uint32
	Version   uint64 `json:",string"`
	SHA256    string
	Offset    uint32
	Data      string
	Next      uint32
	Stop      bool
	Attribute Attribute
	Value     string
}

func (v otaVector) name() string { return v.Name }

func (w otaWant) info(t testing.TB) Info {
	i := Info{State: w.State, Type: w.Type, Size: w.Size, Version: w.Version}
	if w.SHA256 != "" && copy(i.SHA256[:], unhex(t, w.SHA256)) != len(i.SHA256) {
		t.Fatalf("bad digest in the test %q", w.SHA256)
	}
	return i
}

// check reads the message as the vector says, and compares. It returns the
// error of the reading; every other difference fails the test.
func (v otaVector) check(t *testing.T) error {
	m, err := ParseMessage(unhex(t, v.Message))
	if err != nil {
		t.Fatal(err)
	}
	attribute, value, err := ParseTunnel(m.Value)
	if err != nil {
		return err
	}
	w := v.Want
	if w == nil {
		w = &otaWant{}
	}
	differs := func(got, want any) {
		t.Helper()
		if v.Want != nil && fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	differs(m.Attribute, w.Channel)
	switch v.Reading {
	case "info":
		differs(attribute, OTAInfo)
		i, err := ParseInfo(value)
		differs(i, w.info(t))
		return err
	case "transfer":
		differs(attribute, OTATransfer)
		offset, data, err := ParseTransfer(value)
		differs(offset, w.Offset)
		differs(data, unhex(t, w.Data))
		return err
	case "next":
		differs(attribute, OTATransfer)
		next, err := ParseNext(value)
		differs(next, w.Next)
		differs(next == StopOffset, w.Stop)
		return err
	case "tunnel":
		differs(attribute, w.Attribute)
		differs(value, unhex(t, w.Value))
		return nil
	}
	t.Fatalf("unknown reading %q", v.Reading)
	return nil
}

// encode is the canonical encoding of what the vector wants.
func (v otaVector) encode(t *testing.T, dst []byte) ([]byte, error) {
	switch v.Reading {
	case "info":
		return AppendInfo(dst, v.Want.Channel, v.Want.info(t))
	case "transfer":
		return AppendTransfer(dst, v.Want.Offset, unhex(t, v.Want.Data))
	case "next":
		return AppendNext(dst, v.Want.Next)
	}
	t.Fatalf("a vector of reading %q is not encoded", v.Reading)
	return nil, nil
}

func TestOTAVectors(t *testing.T) {
	for _, v := range readVectors[otaVector](t, "ota.json") {
		t.Run(v.Name, func(t *testing.T) {
			err := v.check(t)
			switch {
			case v.Want == nil:
				refused(t, err, v.Error, nil)
			case err != nil:
				t.Fatalf("refused: %v", err)
			case v.Canonical:
				b, err := v.encode(t, []byte("kept"))
				if want := unhex(t, v.Message); err != nil || string(b) != "kept"+string(want) {
					t.Errorf("encoded to % x, %v, want % x", b[4:], err, want)
				}
			}
		})
	}
}

// TestVectorFilesAreRich keeps the promise that every reading, every error and
// at least 60 vectors are there, good and bad.
func TestVectorFilesAreRich(t *testing.T) {
	said := map[string]int{}
	count := func(good bool, file, err string) {
		if good == (err != "") {
			t.Errorf("%s: a vector wants content and an error, or neither", file)
		}
		said[file]++
		said[file+" "+err]++
	}
	for _, v := range readVectors[syncVector](t, "sync.json") {
		count(v.Want != nil, "sync", v.Error)
	}
	for _, v := range readVectors[messageVector](t, "messages.json") {
		count(v.Want != nil, "message", v.Error)
		if v.Want != nil {
			said[v.Want.Type.String()]++
		}
	}
	for _, v := range readVectors[otaVector](t, "ota.json") {
		count(v.Want != nil, v.Reading, v.Error)
		if v.Reading == "info" && v.Want != nil {
			said[v.Want.State.String()]++
		}
	}
	for _, v := range readVectors[streamVector](t, "streams.json") {
		count(true, "stream", "")
		for _, s := range v.Steps {
			said["stream "+s.Event]++
		}
	}
	for what, least := range map[string]int{
		"sync": 20, "message": 40, "info": 20, "stream": 40,
		"sync size": 2, "sync type": 2, "sync checksum": 2,
		"message short": 2, "message length": 2, "message value_length": 2, "message type": 2,
		"info value": 5, "transfer value": 2, "next value": 2, "tunnel value": 2,
		"SET": 2, "GET": 2, "UPDATE": 2, "UPDATE REJECTED": 2, "SET DEFAULT": 2,
		"IDLE": 2, "BEGIN": 2, "TRANSFER_END": 2, "VERIFY": 2, "APPLY": 2, "FAIL": 2,
		"stream ready": 2, "stream sync": 2, "stream bad": 2, "stream message": 2, "stream skipped": 2,
	} {
		if said[what] < least {
			t.Errorf("%d vectors of %q, want at least %d", said[what], what, least)
		}
	}
}
