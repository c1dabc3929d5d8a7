package demo

import (
	"fmt"
	"io"
	"slices"
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
	dialect   string
	fault     fault
	execution orchestrator.Execution
	// before and after are the versions that the service knows from the host
	// MCU's own reports, before the job and after it.
	before, after running
	// identical says that the MCU runs exactly the bytes that were uploaded.
	identical bool
	// loading is how long the bytes took over the line.
	loading time.Duration
	// ceiling is the highest goodput in B/s that the line allows.
	ceiling float64
	line    lineCounts
}

// running is a version that a host MCU reports.
type running struct {
	version string // empty for unknown
	id      uint64 // its number, 0 in dialects that have none
}

func (r running) String() string {
	switch {
	case r.version == "":
		return "?"
	case r.id == 0:
		return r.version
	}
	return fmt.Sprintf("%s (%d)", r.version, r.id)
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
	return o.execution.State == schemas.StateSucceeded && o.after.version == o.execution.Version
}

// goodput is the image's bytes per second of loading; 0 if it was not loaded
// to its end.
func (o outcome) goodput() float64 {
	if o.execution.State != schemas.StateSucceeded || o.loading <= 0 {
		return 0
	}
	return float64(o.execution.BytesTotal) / o.loading.Seconds()
}

// table prints what came of each device. What everybody takes for granted, ayla,
// is not named.
func table(w io.Writer, outcomes []outcome) {
	named := slices.ContainsFunc(outcomes, func(o outcome) bool { return o.dialect != orchestrator.DialectAyla })
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(dialect string, cells ...string) {
		if named {
			cells = slices.Insert(cells, 1, dialect)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	row("DIALECT", "DEVICE", "STATE", "CAUSE", "VERSION", "BYTES", "TIME", "GOODPUT", "OF CEILING")
	for _, o := range outcomes {
		cause := string(o.execution.Cause)
		if cause == "" {
			cause = "-"
		}
		if o.execution.Code != 0 {
			cause += " (" + errorCode(o.execution.Code) + ")"
		}
		rate, share := "-", "-"
		if g := o.goodput(); g > 0 && o.ceiling > 0 {
			rate, share = fmt.Sprintf("%.0f B/s", g), fmt.Sprintf("%.1f %%", 100*g/o.ceiling)
		}
		row(o.dialect, o.device, string(o.execution.State), cause, fmt.Sprintf("%s -> %s", o.before, o.after),
			fmt.Sprintf("%d of %d", o.execution.BytesDone, o.execution.BytesTotal), took(o.execution), rate, share)
	}
	_ = t.Flush()
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
	Dialect       string        `json:"dialect"`
	State         schemas.State `json:"state"`
	Cause         schemas.Cause `json:"cause"`
	Code          int           `json:"code,omitempty"`
	Detail        string        `json:"detail,omitempty"`
	VersionBefore string        `json:"version_before"`
	VersionAfter  string        `json:"version_after"`
	// The numbers of these versions, in dialects whose host MCUs know them by number.
	VersionIDBefore uint64 `json:"version_id_before,omitempty"`
	VersionIDAfter  uint64 `json:"version_id_after,omitempty"`
	BytesDone       uint64 `json:"bytes_done"`
	BytesTotal      uint64 `json:"bytes_total"`
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

func (o outcome) public() publicOutcome {
	p := publicOutcome{
		Device: o.device, Dialect: o.dialect, State: o.execution.State, Cause: o.execution.Cause, Code: o.execution.Code, Detail: o.execution.Detail,
		VersionBefore: o.before.version, VersionAfter: o.after.version, VersionIDBefore: o.before.id, VersionIDAfter: o.after.id, BytesDone: o.execution.BytesDone, BytesTotal: o.execution.BytesTotal,
		Goodput: o.goodput(), Identical: o.identical, FramesBad: o.line.bad, FramesRetried: o.line.retried,
		LineDropouts: o.line.dropouts, BytesCorrupted: o.line.flipped, Explanation: o.explain(),
	}
	if p.Goodput > 0 {
		p.LoadSeconds = o.loading.Seconds()
		p.OfCeiling = p.Goodput / o.ceiling
	}
	return p
}
