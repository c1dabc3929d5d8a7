package afpro

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// chunk is random data that fills a transfer attribute of the default size.
func chunk() []byte {
	rng := rand.NewChaCha8([32]byte{1})
	data := make([]byte, ChunkSize(DefaultAttributeSize))
	for i := range data {
		data[i] = byte(rng.Uint64())
	}
	return data
}

// sendChunk encodes all that the ASR says to send a chunk: response, message and
// the ready bytes between them.
func sendChunk(tb testing.TB, out, message, data []byte) []byte {
	message, err := AppendTransfer(message[:0], 0x10203, data)
	if err != nil {
		tb.Fatal(err)
	}
	out = append(out[:0], Ready)
	out = AppendSync(out, Sync{Type: SyncCounts, ASR: uint16(len(message))})
	out = append(out, Ready, Ready)
	out = append(out, message...)
	return append(out, Ready)
}

// answerChunk encodes all that the MCU says for a chunk: request, acknowledge,
// and the transaction with the next offset.
func answerChunk(tb testing.TB, out, message []byte) []byte {
	message, err := AppendNext(message[:0], 0x10203+uint32(ChunkSize(DefaultAttributeSize)))
	if err != nil {
		tb.Fatal(err)
	}
	out = AppendSync(out[:0], Sync{Type: SyncCounts})
	out = AppendSync(out, Sync{Type: SyncAck, ASR: uint16(MaxMessage(DefaultAttributeSize))})
	out = AppendSync(out, Sync{Type: SyncCounts, MCU: uint16(len(message))})
	out = AppendSync(out, Sync{Type: SyncAck, MCU: uint16(len(message))})
	return append(out, message...)
}

// hearChunk scans what sendChunk made down to the data, as an MCU does.
func hearChunk(tb testing.TB, s *Scanner, stream []byte) (ready int) {
	s.Feed(stream)
	var coming, got int
	for s.Next() {
		switch e := s.Event(); e.Kind {
		case EventReady:
			ready++
			if coming > 0 && ready == 3 && !s.Expect(coming) {
				tb.Fatal("the chunk is too long")
			}
		case EventSync:
			coming = int(e.Sync.ASR)
		case EventMessage:
			got += hearMessage(tb, e.Message)
		default:
			tb.Fatalf("heard %+v", e)
		}
	}
	if got != ChunkSize(DefaultAttributeSize) {
		tb.Fatalf("heard %d bytes of a chunk", got)
	}
	return ready
}

// hearAnswer scans what answerChunk made down to the offset, as the ASR does.
func hearAnswer(tb testing.TB, s *Scanner, stream []byte) (next uint32) {
	s.Feed(stream)
	for s.Next() {
		switch e := s.Event(); e.Kind {
		case EventSync:
			if e.Sync.Type == SyncAck && e.Sync.MCU > 0 && !s.Expect(int(e.Sync.MCU)) {
				tb.Fatal("the answer is too long")
			}
		case EventMessage:
			m, err := ParseMessage(e.Message)
			if err != nil {
				tb.Fatal(err)
			}
			_, value, err := ParseTunnel(m.Value)
			if err != nil {
				tb.Fatal(err)
			}
			if next, err = ParseNext(value); err != nil {
				tb.Fatal(err)
			}
		default:
			tb.Fatalf("heard %+v", e)
		}
	}
	return next
}

func hearMessage(tb testing.TB, message []byte) int {
	m, err := ParseMessage(message)
	if err != nil {
		tb.Fatal(err)
	}
	_, value, err := ParseTunnel(m.Value)
	if err != nil {
		tb.Fatal(err)
	}
	_, data, err := ParseTransfer(value)
	if err != nil {
		tb.Fatal(err)
	}
	return len(data)
}

// TestNoAllocations: neither direction allocates in steady state, nor does a bad
// sync message, nor do the infos of an update.
func TestNoAllocations(t *testing.T) {
	data, message, out := chunk(), make([]byte, 0, 300), make([]byte, 0, 300)
	sent := slices.Clone(sendChunk(t, out, message, data))
	answer := slices.Clone(answerChunk(t, out, message))
	// Section 6 of the document counts the same, and the ASR's response and three
	// ready bytes of the answer's transaction.
	if n := len(sent) + len(answer) + SyncSize + 3; n != 324 {
		t.Errorf("a chunk and its answer take %d bytes, the document says 324", n)
	}
	s := NewScanner(MaxMessage(DefaultAttributeSize))
	bad := []byte{0x30, 1, 2, 3, 4, 5, 0xff}
	begin := Info{State: InfoBegin, Type: 101, Size: 8088, Version: 7}
	for name, run := range map[string]func(){
		"sending a chunk":   func() { sendChunk(t, out, message, data) },
		"sending an answer": func() { answerChunk(t, out, message) },
		"hearing a chunk": func() {
			if hearChunk(t, s, sent) != 4 {
				t.Fatal("lost a ready byte")
			}
		},
		"hearing an answer": func() {
			if hearAnswer(t, s, answer) != 0x10203+249 {
				t.Fatal("another offset")
			}
		},
		"a bad sync message": func() {
			s.Feed(bad)
			n := 0
			for s.Next() {
				n += s.Event().Bytes
			}
			if n != len(bad) {
				t.Fatalf("%d of %d bytes are bad", n, len(bad))
			}
		},
		"an info": func() {
			b, err := AppendInfo(out[:0], ChannelToMCU, begin)
			if err != nil {
				t.Fatal(err)
			}
			m, err := ParseMessage(b)
			if err != nil {
				t.Fatal(err)
			}
			_, value, err := ParseTunnel(m.Value)
			if err != nil {
				t.Fatal(err)
			}
			if i, err := ParseInfo(value); err != nil || i != begin {
				t.Fatal(i, err)
			}
		},
	} {
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// BenchmarkEncodeChunk: a full chunk with its sync message and ready bytes.
func BenchmarkEncodeChunk(b *testing.B) {
	data, message, out := chunk(), make([]byte, 0, 300), make([]byte, 0, 300)
	b.SetBytes(int64(len(sendChunk(b, out, message, data))))
	b.ReportAllocs()
	for b.Loop() {
		sendChunk(b, out, message, data)
	}
}

// BenchmarkScanChunk: the same, scanned down to the data.
func BenchmarkScanChunk(b *testing.B) {
	sent := sendChunk(b, nil, nil, chunk())
	s := NewScanner(MaxMessage(DefaultAttributeSize))
	b.SetBytes(int64(len(sent)))
	b.ReportAllocs()
	for b.Loop() {
		hearChunk(b, s, sent)
	}
}

// BenchmarkAnswer: what the MCU says for a chunk, encoded and scanned.
func BenchmarkAnswer(b *testing.B) {
	message, out := make([]byte, 0, 300), make([]byte, 0, 300)
	s := NewScanner(MaxMessage(DefaultAttributeSize))
	b.SetBytes(int64(len(answerChunk(b, out, message))))
	b.ReportAllocs()
	for b.Loop() {
		hearAnswer(b, s, answerChunk(b, out, message))
	}
}
