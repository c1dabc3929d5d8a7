package firmware

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// memorySpool is a Spool that can fail.
type memorySpool struct {
	data           []byte
	closed         int
	failWrite      error
	failRead       error
	failClose      error
	lostAfterBytes int // what was written after them is lost, if not 0
}

func (m *memorySpool) Write(p []byte) (int, error) {
	if m.failWrite != nil {
		return len(p) / 2, m.failWrite
	}
	m.data = append(m.data, p...)
	return len(p), nil
}

func (m *memorySpool) ReadAt(p []byte, off int64) (int, error) {
	if m.failRead != nil {
		return 0, m.failRead
	}
	data := m.data
	if m.lostAfterBytes > 0 {
		data = data[:m.lostAfterBytes]
	}
	return bytes.NewReader(data).ReadAt(p, off)
}

func (m *memorySpool) Close() error { m.closed++; return m.failClose }

// TestIHexThroughTheSpool: records in any order make the same image whether
// their data was in memory or not.
func TestIHexThroughTheSpool(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 3*keptInMemory+777)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	for name, order := range map[string]func(int) []int{
		"in order": inOrder,
		"backwards, in long pieces": func(n int) []int {
			var out []int
			for at := n; at > 0; at -= min(at, 1000) {
				for i := at - min(at, 1000); i < at; i++ {
					out = append(out, i)
				}
			}
			return out
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := encodeIHex(data, 0x1000, 200, false, order)
			spool := &memorySpool{}
			var out bytes.Buffer
			info, err := Flatten(strings.NewReader(file), &out, Options{Spool: func() (Spool, error) { return spool, nil }})
			if err != nil || !bytes.Equal(out.Bytes(), data) || info.Size != int64(len(data)) {
				t.Fatalf("%d bytes, %+v, %v", out.Len(), info, err)
			}
			if len(spool.data) < 2*keptInMemory || spool.closed != 1 {
				t.Errorf("%d bytes were spooled, closed %d times", len(spool.data), spool.closed)
			}
		})
	}
}

func TestASpoolThatFails(t *testing.T) {
	broken := errors.New("disk on fire")
	file := encodeIHex(make([]byte, 2*keptInMemory+5), 0, 200, false, inOrder)
	for name, spool := range map[string]*memorySpool{
		"writing": {failWrite: broken}, "reading": {failRead: broken}, "closing": {failClose: broken}, "losing": {lostAfterBytes: 1000},
	} {
		_, err := Flatten(strings.NewReader(file), io.Discard, Options{Spool: func() (Spool, error) { return spool, nil }})
		want := broken
		if name == "losing" {
			want = io.ErrUnexpectedEOF
		}
		if !errors.Is(err, want) || errors.Is(err, ErrFormat) || spool.closed != 1 {
			t.Errorf("%s: %v, closed %d times", name, err, spool.closed)
		}
	}
	_, err := Flatten(strings.NewReader(file), io.Discard, Options{Spool: func() (Spool, error) { return nil, broken }})
	if !errors.Is(err, broken) || errors.Is(err, ErrFormat) {
		t.Errorf("opening: %v", err)
	}
	// A bad file closes the spool as well.
	spool := &memorySpool{}
	_, err = Flatten(strings.NewReader(file+"junk"), io.Discard, Options{Spool: func() (Spool, error) { return spool, nil }})
	if !errors.Is(err, ErrFormat) || spool.closed != 1 {
		t.Errorf("a bad file: %v, closed %d times", err, spool.closed)
	}
	// A small file needs none.
	_, err = Flatten(strings.NewReader(":0100000001FE\n:00000001FF\n"), io.Discard, Options{Spool: func() (Spool, error) { return nil, broken }})
	if err != nil {
		t.Errorf("a small file: %v", err)
	}
}
