package afero

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"davit/schemas"
	"davit/schemas/afpro"
)

var updateTranscript = flag.Bool("update-transcript", false, "write testdata/transcript.txt anew")

// smallUpdate is a whole update, of an image of two chunks.
func smallUpdate(b *bench, restarts bool) {
	b.startsUp()

	b.said.heading("Both sides want to speak: the MCU wins, and the ASR's question comes after it")
	b.tells(afpro.MCUCapabilities, 0)
	request := b.nextRequest()
	b.says(afpro.Message{Type: afpro.Get, Request: request, Attribute: afpro.ASRCapabilities})
	question := b.asked()
	if m := b.wants("UPDATE ASR capabilities: 80 (answer to GET)"); m.Request != request {
		b.Errorf("the answer to request %d has the id %d", request, m.Request)
	}

	b.said.heading("What the MCU runs: asked twice, since nothing shows that a bit was wrong")
	b.answer(question, oldID)
	b.answers(oldID)

	b.said.heading("The offer")
	b.accepts()

	b.said.heading("The image")
	b.loads(0, len(b.image))

	b.said.heading("The verdict")
	b.verify()
	b.wants(saysApply)
	b.idle()

	if restarts {
		b.said.heading("The new image runs, has the ASR reboot and says what it is")
		b.reboots()
		b.startsUp()
		b.reports(newID)
		b.answers(newID)
	} else {
		b.said.heading("The new image says what it is")
		b.reports(newID)
		b.answers(newID)
	}
	b.ends(schemas.StateSucceeded, "")
}

// What leaves the bridge in that update: a line for each transaction, in which |
// is where the MCU speaks. 32 is a ready byte, 30 begins a Sync Response. In a message
// spaces stand between length, type, request id, attribute, state, reason, length of the
// value and value.
var (
	bytesOfStartUp = []string{
		"32 | 30 0000 0000 30 32 | 32",                                                // zero sync
		"32 | 30 0000 0c00 3c 32 | 32 0a00 0d 00 b804 00 07 0200 0200 32",             // ASR protocol version 2
		"30 0c00 0000 3c 32 | 32 | 32",                                                // the MCU's is 2
		"32 | 30 0000 0c00 3c 32 | 32 0a00 0d 00 b904 00 03 0200 0200 32",             // its echo
		"32 | 30 0000 1200 42 32 | 32 1000 0d 00 d307 00 07 0800 0000010000000000 32", // application version
		"32 | 30 0000 0b00 3b 32 | 32 0900 0d 00 f5fd 00 07 0100 01 32",               // linked
		"32 | 30 0000 0b00 3b 32 | 32 0900 0d 00 f5fd 00 07 0100 04 32",               // initialized
	}
	bytesOfUpdate = []string{
		"32 | 30 0b00 0600 41 32 | 30 0b00 0000 3b 32 | 32 | 32",        // afLib capabilities, after a collision
		"32 | 30 0600 0600 3c 32 | 30 0600 0000 36 32 | 32 | 32",        // GET of the ASR's capabilities, after another one
		"32 | 30 0000 0600 36 32 | 32 0400 0c 01 3508 32",               // GET of the version
		"32 | 30 0000 0b00 3b 32 | 32 0900 0d 03 b604 00 0b 0100 80 32", // the ASR's capabilities: MCU OTA
		"30 1200 0000 42 32 | 32 | 32",                                  // version 6
		"32 | 30 0000 0600 36 32 | 32 0400 0c 02 3508 32",               // GET of the version
		"30 1200 0000 42 32 | 32 | 32",                                  // version 6

		"32 | 30 0000 1b00 4b 32 | 32 1900 0d 00 4a04 00 01 1100 1505 01 6500 0c000000 0700000000000000 32", // BEGIN
		"30 1b00 0000 4b 32 | 32 | 32", // BEGIN: go on
		"32 | 30 0000 1800 48 32 | 32 1600 0d 00 4a04 00 01 0e00 1605 00000000 3031323436383a3d 32", // chunk at 0
		"30 1000 0000 40 32 | 32 | 32", // next offset 8
		"32 | 30 0000 1400 44 32 | 32 1200 0d 00 4a04 00 01 0a00 1605 08000000 4043464a 32", // chunk at 8
		"30 1000 0000 40 32 | 32 | 32", // stop
		"30 2d00 0000 5d 32 | 32 | 32", // VERIFY
		"32 | 30 0000 1500 45 32 | 32 1300 0d 00 4a04 00 01 0b00 1505 04 0700000000000000 32", // APPLY
		"30 0d00 0000 3d 32 | 32 | 32", // IDLE
	}
	bytesOfRestart = slices.Concat(
		[]string{
			"30 0c00 0000 3c 32 | 32 | 32", // SET of the system command: reboot
			bytesOfStartUp[0],              // zero sync
			"32 | 30 0000 0e00 3e 32 | 32 0c00 0d 04 f4fd 00 03 0400 01000000 32", // its answer
		},
		bytesOfStartUp[1:],
		[]string{
			"32 | 30 1200 0600 48 32 | 30 1200 0000 42 32 | 32 | 32", // version 7, after a collision with
			"32 | 30 0000 0600 36 32 | 32 0400 0c 03 3508 32",        // GET of the version
			"30 1200 0000 42 32 | 32 | 32",                           // version 7
		},
	)
	bytesOfNoRestart = []string{
		"30 1200 0000 42 32 | 32 | 32",                    // version 7
		"32 | 30 0000 0600 36 32 | 32 0400 0c 03 3508 32", // GET of the version
		"30 1200 0000 42 32 | 32 | 32",                    // version 7
	}
)

// Byte for byte, an update whose MCU restarts, and one whose MCU does not.
func TestBytesOnTheLine(t *testing.T) {
	for _, c := range []struct {
		name     string
		restarts bool
		tail     []string
	}{{"the MCU restarts", true, bytesOfRestart}, {"the MCU does not restart", false, bytesOfNoRestart}} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, chunk+4, func(b *bench) {
				smallUpdate(b, c.restarts)
				compareBytes(t, b.said.bytesOf(fromASR), slices.Concat(bytesOfStartUp, bytesOfUpdate, c.tail))
			})
		})
	}
}

// compareBytes holds what was said against lines of hex.
func compareBytes(t *testing.T, got []byte, lines []string) {
	t.Helper()
	for i, line := range lines {
		want, err := hex.DecodeString(strings.NewReplacer(" ", "", "|", "").Replace(line))
		if err != nil {
			t.Fatalf("transaction %d is no hex: %v", i+1, err)
		}
		if !bytes.HasPrefix(got, want) {
			t.Fatalf("transaction %d\n got % x\nwant % x", i+1, got[:min(len(got), len(want)+8)], want)
		}
		got = got[len(want):]
	}
	if len(got) > 0 {
		t.Errorf("said beside that: % x", got)
	}
}

const transcriptHead = `An update of 12 bytes, as the line carries it at 9,600 bit/s, in words (docs/afero-wire.md has the bytes).

Each line is what one side hands to the line at once: the second, the side, and what it says. The counts of a sync
message are (bytes that the MCU sends, bytes that the ASR sends), of the message that follows. Of two ready bytes in a
row, the first completes a transaction and the second asks for the next one. Written by TestTranscript.

The start-up, with an MCU of protocol version 2

`

// TestTranscript holds an update in words against testdata/transcript.txt. After a
// change of what is said: go test ./bridge/dialect/afero -run Transcript
// -update-transcript
func TestTranscript(t *testing.T) {
	const path = "testdata/transcript.txt"
	virtual(t, chunk+4, func(b *bench) {
		smallUpdate(b, true)
		want := transcriptHead + b.said.transcript()
		t.Log("\n" + want)
		if *updateTranscript {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is out of date; run: go test ./bridge/dialect/afero -run Transcript -update-transcript", path)
		}
	})
}
