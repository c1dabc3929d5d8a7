// Package replay runs the host MCU's side of a recording against a dialect's state
// machine and compares what the machine sends with what the bridge sent then: a
// fault from the field becomes a regression test that takes no time and comes out
// the same each time.
//
// The machine is driven through session.Machine with a clock that follows the
// recording. It is told what the recording shows that the bridge was told: the
// update that it offered, and the bytes of the image that went down the line;
// bytes that never did are unknown and read as zero.
//
// # Agreement
//
// Both sides of both lines are decoded, and the bridge's frames are compared one by
// one: type, number and payload of an ayla frame, every byte of an afero message.
// How they were cut into writes, and the flags between them, do not matter.
//
// A retry is a data frame of ayla with number and payload of the data frame before,
// or a ready byte of afero behind another. When those come depends on timers that
// follow the MCU's turn-around, so retries are counted on both sides and not
// compared; the other frames are the distinct ones. Options.Strict compares
// retries, too.
//
// What the MCU said is handed over at its recorded time, or once the machine has
// sent all distinct frames that came before it in the recording, whichever is
// later. The two agree if the machine sends the same distinct frames in the same
// order, none of them
//
//   - more than 20 ms before something that the MCU had said before it then: the
//     jitter of a bridge's timers and reads. For as long, a timer of the machine
//     waits for what the MCU said next;
//   - later than 6 s after something that the MCU said behind it then: a frame that
//     is not acknowledged may be given up later by one wait for that, 5 s at most.
//
// What the machine sends when all of the recording has gone by is not compared.
//
// # What a recording does not show
//
// When the bridge was told of an update, when it had the image, whether the update
// was forced, and whether an earlier session had taken one as far as the boot, is
// found by trying: the first set of answers with which all agrees counts, or else
// the one with which most does. That an update was cancelled cannot be found: the
// recording differs there.
//
// The package imports schemas, bridge/dialect, bridge/recording and bridge/sniff,
// never a dialect: those are handed in. It starts no goroutine and reads no clock.
package replay
