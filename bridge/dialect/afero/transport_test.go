package afero

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"davit/bridge/dialect"
	"davit/schemas"
	"davit/schemas/afpro"
)

// message of the product that means nothing to the bridge: 11 bytes, attribute 2.
var message = []byte{0x09, 0x00, 0x0d, 0x01, 0x02, 0x00, 0x00, 0x01, 0x01, 0x00, 0x01}

// pause is how long a message may pause before its rest is taken for lost.
const pause = gapMargin + gapBytes*bitsPerByte*time.Second/defaultBaud

// bad says how many frames were bad so far.
func (b *bench) bad() int {
	synctest.Wait()
	return b.Count(dialect.FramesBad)
}

// gone says how many messages were given up so far.
func (b *bench) gone() int {
	synctest.Wait()
	return b.Count(dialect.FramesLost)
}

// good says how many messages were received so far.
func (b *bench) good() int {
	synctest.Wait()
	return b.Count(dialect.FramesReceived)
}

// about says whether d is want, but for the time of a few bytes.
func about(d, want time.Duration) bool { return d >= want && d < want+10*time.Millisecond }

func TestZeroSync(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		for range 3 {
			if c := b.open(0); c.MCU != 0 || c.ASR != 0 {
				t.Fatalf("counts %+v, and nobody has anything to say", c)
			}
			b.quiet(readyAfter-10*time.Millisecond, "the transaction is complete")
		}
	})
}

// While the MCU is to go on, it hears ready every second. After ten seconds the
// transaction is given up, and the next one works.
func TestReadyIsRepeated(t *testing.T) {
	for _, c := range []struct {
		name  string
		stall func(b *bench) // goes on to where the MCU stops, and takes the first ready byte there
		lost  int
	}{
		{"no Request", func(b *bench) { b.ready(time.Second) }, 1},
		{"no Ack", func(b *bench) { b.ready(time.Second); b.sync(0); b.ready(time.Second) }, 1},
		{"no Request after a collision", func(b *bench) { b.ready(time.Second); b.sync(len(message)); b.ready(time.Second) }, 1},
		{"no message", func(b *bench) { b.up(oldID); b.open(len(message)) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				c.stall(b)
				began := time.Now()
				for last := began; time.Since(began) < 9*time.Second; {
					now := b.ready(2 * time.Second)
					if !about(now.Sub(last), time.Second) {
						t.Errorf("a ready byte %v after the one before", now.Sub(last))
					}
					last = now
				}
				if n := b.gone(); n != 0 {
					t.Errorf("%d messages given up before their time", n)
				}
				time.Sleep(10*time.Second - time.Since(began) + 10*time.Millisecond)
				if n := b.gone(); n != c.lost {
					t.Errorf("%d messages given up, want %d", n, c.lost)
				}
				if c.lost > 0 {
					b.up(oldID)
				}
				b.send(message)
			})
		})
	}
}

// An MCU that speaks all the time wins every transaction; what the bridge has to
// say is given up after a minute, and an update ends with a cause.
func TestMCUThatSpeaksAllTheTime(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.update.AnswerTimeout = 5 * time.Minute
		b.session.Start(b.update)
		began := time.Now()
		for len(b.Done) == 0 && time.Since(began) < time.Hour {
			b.send(message)
			synctest.Wait()
		}
		if n := b.gone(); n < 4 || n > 6 {
			t.Errorf("%d messages given up in five minutes", n)
		}
		b.ends(schemas.StateTimedOut, schemas.CauseTimeout)
	})
}

// An MCU that is silent for a minute is led through the start-up when it is
// heard again, however often that was tried meanwhile.
func TestSilenceOfAMinute(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.pass(time.Minute + readyAgain/2)
		if n := b.gone(); n != 6 {
			t.Errorf("%d messages given up in a minute", n)
		}
		b.up(oldID)
	})
}

// A Request begins the transaction anew wherever that is; what the bridge has to
// say stays and is said then.
func TestRequestBeginsAnew(t *testing.T) {
	for _, c := range []struct {
		name string
		upTo func(b *bench) // to where the transaction was when the MCU forgot it
	}{
		{"ready was sent", func(b *bench) { b.ready(time.Second) }},
		{"Response was sent", func(b *bench) { b.ready(time.Second); b.sync(0); b.ready(time.Second); time.Sleep(doubleWithin) }},
		{"Response was sent, other counts", func(b *bench) { b.ready(time.Second); b.sync(len(message)); b.ready(time.Second) }},
		{"collision", func(b *bench) {
			b.ready(time.Second)
			b.sync(len(message))
			b.ready(time.Second)
			b.sync(len(message))
			b.ready(time.Second)
		}},
		{"the MCU's message was to come", func(b *bench) {
			b.ready(time.Second)
			b.open(len(message))
			b.requests(0) // is taken for bytes of the message
			b.ready(pause + 10*time.Millisecond)
			b.ready(10 * time.Millisecond)
		}},
		{"the MCU's message broke off", func(b *bench) {
			b.ready(time.Second)
			b.open(len(message))
			b.raw(message[:5]...)
			b.ready(pause + 10*time.Millisecond)
			b.ready(10 * time.Millisecond)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.zero()
				c.upTo(b)
				if counts := b.open(0); counts.ASR != 12 || counts.MCU != 0 {
					t.Fatalf("counts %+v, want 0 and 12", counts)
				}
				if m, err := afpro.ParseMessage(b.bytes(12)); err != nil || describe(m) != saysProtocol {
					t.Fatalf("said %q, %v", describe(m), err)
				}
				b.ready(time.Second)
				b.tells(afpro.MCUProtocol, 2, 0)
				b.wants(saysEcho)
			})
		})
	}
}

// An MCU that begins anew in the middle of the bridge's message has not got it:
// a chunk is sent again when its answer does not come.
func TestRequestInTheMiddleOfOurMessage(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		b.accepts()
		b.ready(time.Second)
		n := int(b.open(0).ASR)
		b.bytes(n / 2)
		b.requests(0)
		b.bytes(n - n/2)
		b.ready(time.Second)
		if c := b.response(); c.ASR != 0 {
			t.Errorf("%d bytes are to be sent once more at once", c.ASR)
		}
		b.ready(time.Second)
		b.ack(afpro.Sync{})
		b.ready(time.Second)
		b.loads(0, 20)
	})
}

// Both sides want to speak: the MCU wins, and nothing is lost.
func TestCollision(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.ready(time.Second)
		if c := b.sync(len(message)); int(c.MCU) != len(message) || c.ASR != 12 {
			t.Fatalf("counts %+v, want both", c)
		}
		b.ready(time.Second)
		c := b.sync(len(message))
		if int(c.MCU) != len(message) || c.ASR != 0 {
			t.Fatalf("counts %+v, want the MCU's alone", c)
		}
		b.ready(time.Second)
		b.ack(c)
		b.ready(time.Second)
		b.raw(message...)
		b.ready(time.Second)
		if n := b.good(); n != 1 {
			t.Errorf("%d messages received", n)
		}
		b.wants(saysProtocol)
	})
}

// After a collision, an MCU may have nothing to say any more.
func TestCollisionThatTheMCUForgets(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.ready(time.Second)
		b.sync(len(message))
		b.wants(saysProtocol) // in the transaction that the ready byte behind the Response begins
	})
}

func TestDoubledSyncs(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes int // of the MCU's message
	}{{"bridge's message", 0}, {"MCU's message", len(message)}} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				if c.bytes > 0 {
					b.up(oldID)
				} else {
					b.zero()
					b.ready(time.Second)
				}
				bad := b.bad()
				b.requests(c.bytes)
				counts := b.sync(c.bytes)
				b.ready(time.Second)
				b.quiet(100*time.Millisecond, "a Request was doubled")
				b.ack(counts)
				b.ack(counts)
				b.ready(time.Second)
				if c.bytes > 0 {
					b.raw(message...)
				} else if got := b.bytes(12); got[4] != 0xb8 {
					t.Errorf("said % x", got)
				}
				b.ready(time.Second)
				b.quiet(time.Second, "an Ack was doubled")
				if n := b.bad() - bad; n != 1 {
					t.Errorf("%d frames were bad, want the second Ack", n)
				}
			})
		})
	}
}

// A Request that is doubled in a collision is not the MCU's repetition of it.
func TestDoubledRequestInACollision(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.ready(time.Second)
		b.requests(len(message))
		if c := b.sync(len(message)); !c.Collision() {
			t.Fatalf("counts %+v, want both", c)
		}
		b.ready(time.Second)
		b.quiet(100*time.Millisecond, "a Request was doubled")
		b.send(message)
		b.wants(saysProtocol)
	})
}

func TestBadSyncs(t *testing.T) {
	spoilt := func(s afpro.Sync) []byte {
		b := afpro.AppendSync(nil, s)
		b[5] ^= 0x80
		return b
	}
	answered := afpro.Sync{Type: afpro.SyncAck, ASR: 12}
	for _, c := range []struct {
		name     string
		answered bool // a Request has been answered
		bytes    []byte
	}{
		{"Request with a wrong checksum", false, spoilt(afpro.Sync{Type: afpro.SyncCounts})},
		{"Ack where a Request is awaited", false, afpro.AppendSync(nil, answered)},
		{"Ack with a wrong checksum", true, spoilt(answered)},
		{"Ack of fewer bytes", true, afpro.AppendSync(nil, afpro.Sync{Type: afpro.SyncAck, ASR: 11})},
		{"Ack of bytes of its own", true, afpro.AppendSync(nil, afpro.Sync{Type: afpro.SyncAck, MCU: 5, ASR: 12})},
		{"Ack of nothing", true, afpro.AppendSync(nil, afpro.Sync{Type: afpro.SyncAck})},
		{"a ready byte", true, []byte{afpro.Ready}},
		{"half an Ack", true, afpro.AppendSync(nil, answered)[:3]},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.zero()
				b.ready(time.Second)
				if c.answered {
					b.sync(0)
					b.ready(time.Second)
				}
				b.raw(c.bytes...)
				b.quiet(readyAgain-100*time.Millisecond, "that means nothing")
				if n := b.bad(); n == 0 && len(c.bytes) != 3 {
					t.Error("no bad frame was counted")
				}
				b.ready(200 * time.Millisecond)
				if c.answered {
					b.ack(answered)
				} else {
					b.sync(0)
					b.ready(time.Second)
					b.ack(answered)
				}
				b.ready(time.Second)
				if got := b.bytes(12); got[4] != 0xb8 {
					t.Errorf("said % x", got)
				}
			})
		})
	}
}

// A message that does not come as it was announced costs the MCU a repetition at
// most, and the bridge no more than a short wait.
func TestMessagesThatAreNotAsAnnounced(t *testing.T) {
	long := bytes.Repeat([]byte{0x55}, longest+1)
	for _, c := range []struct {
		name      string
		announced int
		bytes     []byte
		received  int
		wait      time.Duration // for the ready byte behind it
	}{
		{"breaks off behind its first byte", len(message), message[:1], 0, pause},
		{"breaks off before its last byte", len(message), message[:len(message)-1], 0, pause},
		{"garbage before it", len(message), append([]byte{0xff, 0x31, 0x00, 0x32}, message...), 1, 0},
		{"its beginning said twice", len(message), append(message[:4:4], message...), 1, -4 * bitsPerByte * time.Second / defaultBaud},
		{"another one in its place", len(message), bytes.Repeat([]byte{0x55}, len(message)), 0, pause},
		{"longer than any", len(long), long, 0, 0},
		{"longer than any, breaks off", len(long), long[:100], 0, pause},
		{"announced as the longest there is, breaks off", 0xffff, message, 0, pause},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.up(oldID)
				good, bad := b.good(), b.bad()
				b.open(c.announced)
				b.raw(c.bytes...)
				sent := time.Now().Add(time.Duration(len(c.bytes)) * b.line.ByteTime())
				if at := b.ready(time.Minute); !about(at.Sub(sent), c.wait) {
					t.Errorf("ready after %v, want %v", at.Sub(sent), c.wait)
				}
				b.quiet(time.Second, "it is over")
				if n := b.bad() - bad; n == 0 {
					t.Error("no bad frame was counted")
				}
				if n := b.good() - good; n != c.received {
					t.Errorf("%d messages received, want %d", n, c.received)
				}
				b.send(message)
				if n := b.good() - good; n != c.received+1 {
					t.Errorf("%d messages received in the end, want %d", n, c.received+1)
				}
			})
		})
	}
}

// Where nobody has anything to say the MCU hears ready after five seconds, in
// case it missed the last one, but not for ever.
func TestReadyInIdle(t *testing.T) {
	virtual(t, 20, func(b *bench) {
		b.up(oldID)
		last := time.Now()
		for range 3 {
			now := b.ready(time.Minute)
			if !about(now.Sub(last), 5*time.Second) {
				t.Errorf("a ready byte after %v", now.Sub(last))
			}
			last = now
		}
		b.quiet(5*time.Minute, "three were in vain")
		b.send(message)
		for range 3 {
			b.ready(time.Minute)
		}
		b.quiet(time.Minute, "three were in vain")
	})
}

// An MCU that babbles costs no later message.
func TestHostileBytes(t *testing.T) {
	for name, junk := range map[string][]byte{
		"no sync ever":            bytes.Repeat([]byte{0x55}, 20_000),
		"only ready bytes":        bytes.Repeat([]byte{afpro.Ready}, 20_000),
		"only beginnings of sync": bytes.Repeat([]byte{0x30}, 20_000),
		"only Acks":               bytes.Repeat(afpro.AppendSync(nil, afpro.Sync{Type: afpro.SyncAck, ASR: 12}), 3000),
		"only Requests":           bytes.Repeat(afpro.AppendSync(nil, afpro.Sync{Type: afpro.SyncCounts}), 3000),
		"Requests that change": bytes.Repeat(afpro.AppendSync(afpro.AppendSync(nil, afpro.Sync{Type: afpro.SyncCounts, MCU: 1}),
			afpro.Sync{Type: afpro.SyncCounts, MCU: 0xffff}), 1500),
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, 20, func(b *bench) {
				b.up(oldID)
				b.raw(junk...)
				b.pass(patience + 5*time.Second)
				b.send(message)
				b.accepts()
				b.loads(0, 20)
			})
		})
	}
}
