package firmware_test

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"davit/orchestrator/firmware"
)

// line is one record of an Intel HEX file.
func line(kind byte, address uint16, data ...byte) string {
	sum := byte(len(data)) + byte(address>>8) + byte(address) + kind
	text := fmt.Sprintf(":%02X%04X%02X", len(data), address, kind)
	for _, b := range data {
		sum += b
		text += fmt.Sprintf("%02X", b)
	}
	return text + fmt.Sprintf("%02X\n", -sum)
}

// counted counts what is written.
type counted struct{ n int64 }

func (c *counted) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// A short file whose addresses span gigabytes grows into no image and costs no memory,
// however its data is spread.
func TestHugeAddressSpanCostsNothing(t *testing.T) {
	const limit = 64 << 20
	spread := func(step, count int) string {
		var b strings.Builder
		for i := range count {
			at := i * step
			b.WriteString(line(4, 0, byte(at>>24), byte(at>>16)))
			b.WriteString(line(0, uint16(at), 1))
		}
		return b.String() + line(1, 0)
	}
	for name, file := range map[string]string{
		"two bytes 2 GiB apart":       spread(2<<30, 2),
		"a byte in every 16 MiB":      spread(16<<20, 256),
		"a byte in every 64 KiB":      spread(64<<10, 65_536),
		"a byte in every MiB of 32 M": spread(1<<20, 32),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out := &counted{}
		_, err := firmware.Flatten(io.LimitReader(strings.NewReader(file), 8<<20), out, firmware.Options{Format: firmware.FormatIHex, Limit: limit})
		runtime.ReadMemStats(&after)
		if out.n > limit || err != nil && out.n > 0 {
			t.Errorf("%s: %d bytes were written, and the error is %v", name, out.n, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
			t.Errorf("%s: %d bytes of file took %d bytes of memory", name, len(file), used)
		}
	}
}
