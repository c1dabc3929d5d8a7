package demo

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"davit/orchestrator"
	"davit/schemas"
	"davit/schemas/tlv"
)

// outcome is how it went on one device, from both ends of the line.
type outcome struct {
	device    string
	fault     fault
	execution orchestrator.Execution
	// before and after are the versions that the service knows from the host
	// MCU's own reports, before the job and after it.
	before, after string
	// identical says that the MCU runs exactly the bytes that were uploaded.
	identical bool
	// loading is how long the bytes took over the line.
	loading time.Duration
	line    lineCounts
}

// lineCounts is what happened on a serial line.
type lineCounts struct {
	flipped  int64 // bytes that arrived damaged
	bad      int64 // frames that the bridge dropped
	retried  int64 // frames that the bridge sent again
	dropouts int64 // times that the port was lost
}

// updated says whether the device reports the job's version.
func (o outcome) updated() bool {
	return o.execution.State == schemas.StateSucceeded && o.after == o.execution.Version
}

// goodput is the image's bytes per second of loading; 0 if it was not loaded
// to its end.
func (o outcome) goodput() float64 {
	if o.execution.State != schemas.StateSucceeded || o.loading <= 0 {
		return 0
	}
	return float64(o.execution.BytesTotal) / o.loading.Seconds()
}

// bitsPerByte is what one byte takes on a line with 8 data bits, odd parity
// and one stop bit.
const bitsPerByte = 11

// ceiling is the highest goodput in B/s that a line of baud bit/s allows for
// this image: every piece of it as the frame that carries it, stuffing and
// flags included, with nothing between the frames and acknowledgements that
// cost nothing (docs/wire.md section 6).
func ceiling(image []byte, baud int) (float64, error) {
	var packet, frame []byte
	wire := 0
	seq := byte(0)
	for off := 0; off < len(image); off += tlv.MaxLoad {
		piece := image[off:min(off+tlv.MaxLoad, len(image))]
		var err error
		if packet, err = tlv.AppendLoad(packet[:0], uint16(off/tlv.MaxLoad), uint64(off), piece); err != nil {
			return 0, err
		}
		seq = tlv.NextSeq(seq)
		if frame, err = tlv.AppendFrameShared(frame[:0], tlv.Frame{Type: tlv.FrameData, Seq: seq, Payload: packet}); err != nil {
			return 0, err
		}
		wire += len(frame)
	}
	if wire == 0 {
		return 0, fmt.Errorf("an image of no bytes has no goodput")
	}
	seconds := float64(wire) * bitsPerByte / float64(baud)
	return float64(len(image)) / seconds, nil
}

// table prints what came of each device.
func table(w io.Writer, outcomes []outcome, ceiling float64) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join([]string{"DEVICE", "STATE", "CAUSE", "VERSION", "BYTES", "TIME", "GOODPUT", "OF CEILING"}, "\t"))
	for _, o := range outcomes {
		cause := string(o.execution.Cause)
		if cause == "" {
			cause = "-"
		}
		if o.execution.Code != 0 {
			cause += " (" + errorCode(o.execution.Code) + ")"
		}
		rate, share := "-", "-"
		if g := o.goodput(); g > 0 && ceiling > 0 {
			rate, share = fmt.Sprintf("%.0f B/s", g), fmt.Sprintf("%.1f %%", 100*g/ceiling)
		}
		fmt.Fprintln(t, strings.Join([]string{
			o.device, string(o.execution.State), cause, unknown(o.before) + " -> " + unknown(o.after),
			fmt.Sprintf("%d of %d", o.execution.BytesDone, o.execution.BytesTotal), took(o.execution), rate, share,
		}, "\t"))
	}
	_ = t.Flush()
}

func unknown(version string) string {
	if version == "" {
		return "?"
	}
	return version
}

// took is the time from the offer to the end.
func took(e orchestrator.Execution) string {
	if e.OfferedAt.IsZero() || e.EndedAt.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%.1f s", e.EndedAt.Sub(e.OfferedAt).Seconds())
}

func errorCode(code int) string {
	return fmt.Sprintf("%s, %#02x", tlv.Code(code), code)
}

// publicOutcome is an outcome as --json prints it.
type publicOutcome struct {
	Device        string        `json:"device"`
	State         schemas.State `json:"state"`
	Cause         schemas.Cause `json:"cause"`
	Code          int           `json:"code,omitempty"`
	Detail        string        `json:"detail,omitempty"`
	VersionBefore string        `json:"version_before"`
	VersionAfter  string        `json:"version_after"`
	BytesDone     uint64        `json:"bytes_done"`
	BytesTotal    uint64        `json:"bytes_total"`
	// LoadSeconds is the time of the load over the line; Goodput is in B/s.
	LoadSeconds    float64  `json:"load_seconds,omitempty"`
	Goodput        float64  `json:"goodput,omitempty"`
	OfCeiling      float64  `json:"of_ceiling,omitempty"`
	Identical      bool     `json:"identical"`
	FramesBad      int64    `json:"frames_bad"`
	FramesRetried  int64    `json:"frames_retried"`
	Explanation    []string `json:"explanation,omitempty"`
	LineDropouts   int64    `json:"line_dropouts"`
	BytesCorrupted int64    `json:"bytes_corrupted"`
}

func (o outcome) public(ceiling float64) publicOutcome {
	p := publicOutcome{
		Device: o.device, State: o.execution.State, Cause: o.execution.Cause, Code: o.execution.Code, Detail: o.execution.Detail,
		VersionBefore: o.before, VersionAfter: o.after, BytesDone: o.execution.BytesDone, BytesTotal: o.execution.BytesTotal,
		Goodput: o.goodput(), Identical: o.identical, FramesBad: o.line.bad, FramesRetried: o.line.retried,
		LineDropouts: o.line.dropouts, BytesCorrupted: o.line.flipped, Explanation: o.explain(),
	}
	if p.Goodput > 0 {
		p.LoadSeconds = o.loading.Seconds()
		p.OfCeiling = p.Goodput / ceiling
	}
	return p
}
