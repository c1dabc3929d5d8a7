package fleet

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// Result is what became of a run. The names of its JSON form are stable.
type Result struct {
	// Succeeded says that everything went as the configuration says: all devices connected,
	// each update ended as it was drawn, no wrong byte came, and nothing was interrupted but a Hold
	// without an end. Reasons say what did not.
	Succeeded bool     `json:"succeeded"`
	Reasons   []string `json:"reasons"`
	Seed      uint64   `json:"seed"`
	Devices   int      `json:"devices"`
	// Online is how many were connected at the end of the run, before it said goodbye.
	Online  int64   `json:"online"`
	Seconds float64 `json:"seconds"`
	// Connections and Phases count devices at that time, by state.
	Connections map[string]int64 `json:"connections"`
	Phases      map[string]int64 `json:"phases"`
	Connects    ConnectResult    `json:"connects"`
	Storm       *StormResult     `json:"storm,omitempty"`
	Updates     UpdateResult     `json:"updates"`
	Messages    MessageResult    `json:"messages"`
	Download    DownloadResult   `json:"download"`
	Latency     LatencyResult    `json:"latency"`
	Process     ProcessResult    `json:"process"`
	// Errors are what went wrong, in words, and how often.
	Errors map[string]int64 `json:"errors"`

	connected bool // all devices, so that what is measured then was measured
}

// ConnectResult is about connections.
type ConnectResult struct {
	// Seconds from the first attempt until all devices were online the first time; none if that was not to be.
	Seconds     float64 `json:"seconds,omitempty"`
	Attempts    int64   `json:"attempts"`
	Accepted    int64   `json:"accepted"`
	Busy        int64   `json:"busy"`        // refused for the moment, and tried again
	Refused     int64   `json:"refused"`     // for good
	Unreachable int64   `json:"unreachable"` // no answer to TCP or CONNECT
	Lost        int64   `json:"lost"`        // ended by others, or by the storm
	Reboots     int64   `json:"reboots"`
}

// StormResult is about a storm: from the first connection lost until all devices were online
// again.
type StormResult struct {
	Seconds     float64 `json:"seconds"`
	Attempts    int64   `json:"attempts"`
	Busy        int64   `json:"busy"`
	Unreachable int64   `json:"unreachable"`
}

// UpdateResult is about updates.
type UpdateResult struct {
	// Finished devices have brought an update to its acknowledged end: as it was drawn
	// (success, or failure with its cause), or otherwise.
	Finished   int64 `json:"finished"`
	AsDrawn    int64 `json:"as_drawn"`
	Otherwise  int64 `json:"otherwise"`
	FallenBack int64 `json:"fallen_back"`
	// NeverRead devices have asked for an image and read nothing since then.
	NeverRead int64 `json:"never_read"`
	// WrongChunks had other bytes than the image, WrongImages another SHA-256.
	WrongChunks int64 `json:"wrong_chunks"`
	WrongImages int64 `json:"wrong_images"`
	// Seconds from the first offer to the last end.
	Seconds float64 `json:"seconds"`
}

// MessageResult counts messages.
type MessageResult struct {
	Hellos        int64 `json:"hellos"`
	Offers        int64 `json:"offers"`
	Withdrawals   int64 `json:"withdrawals"`
	Statuses      int64 `json:"statuses"`
	StatusRepeats int64 `json:"status_repeats"`
	Acks          int64 `json:"acks"`
	Superseded    int64 `json:"superseded"`
	Fetches       int64 `json:"fetches"`
	FetchRepeats  int64 `json:"fetch_repeats"` // nothing came for a while
	Chunks        int64 `json:"chunks"`
	StreamChunks  int64 `json:"stream_chunks"`  // of them, from shared streams
	ChunksDropped int64 `json:"chunks_dropped"` // lost, as the profile says
	Gaps          int64 `json:"gaps"`           // noticed by what came after them
	Unasked       int64 `json:"unasked"`        // chunks that answer no fetch that is open
	Duplicates    int64 `json:"duplicates"`     // chunks that brought nothing
}

// DownloadResult is about image bytes, from the first fetch to the last whole image.
type DownloadResult struct {
	Seconds      float64 `json:"seconds"`
	ImageBytes   int64   `json:"image_bytes"` // that devices did not have before
	ChunkBytes   int64   `json:"chunk_bytes"` // all that came in chunks
	MiBPerSecond float64 `json:"mib_per_s"`
	ChunksPerS   float64 `json:"chunks_per_s"`
}

// LatencyResult are times in milliseconds.
type LatencyResult struct {
	Chunk   Latency `json:"chunk"`   // from a fetch to each of its chunks
	Offer   Latency `json:"offer"`   // from a hello to the next offer
	Connect Latency `json:"connect"` // from the beginning of a connection to SUBACK
}

// ProcessResult is about the fleet's own process.
type ProcessResult struct {
	CPUSeconds float64 `json:"cpu_s"`
	// RSS is what the process has in memory at the end.
	RSS int64 `json:"rss_bytes"`
	// IdlePerDevice is what it took, when all had connected, for each of them: heap and
	// stacks, and all of the process. None if not all have connected.
	IdlePerDevice    int64 `json:"idle_bytes_per_device,omitempty"`
	IdleRSSPerDevice int64 `json:"idle_rss_bytes_per_device,omitempty"`
}

// miss notes what did not go as it should.
func (r *Result) miss(err error, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		text += " (interrupted)"
	case err != nil:
		text += fmt.Sprintf(" (%v)", err)
	}
	r.Reasons = append(r.Reasons, text)
}

// result fills in what was counted.
func (f *Fleet) result(r *Result) {
	c := &f.count
	r.Online = c.links[linkOnline].Load()
	r.Seconds = f.seconds(0, int64(f.clock.now()))
	r.Connections, r.Phases = map[string]int64{}, map[string]int64{}
	for l := range links {
		r.Connections[l.String()] = c.links[l].Load()
	}
	for p := range phases {
		r.Phases[p.String()] = c.phases[p].Load()
	}
	connect := &r.Connects
	connect.Attempts, connect.Accepted, connect.Busy, connect.Refused = c.attempts.Load(), c.accepted.Load(), c.busy.Load(), c.refused.Load()
	connect.Unreachable, connect.Lost, connect.Reboots = c.unreachable.Load(), c.lost.Load(), c.reboots.Load()
	r.Updates = UpdateResult{
		Finished: c.finished.Load(), AsDrawn: c.asDrawn.Load(), Otherwise: c.otherwise.Load(), FallenBack: c.fallenBack.Load(),
		NeverRead: c.stalled.Load(), WrongChunks: c.wrong.Load(), WrongImages: c.wrongImages.Load(),
	}
	if from := c.firstOffer.Load(); from != 0 && c.lastEnd.Load() > from {
		r.Updates.Seconds = f.seconds(from, c.lastEnd.Load())
	}
	r.Messages = MessageResult{
		Hellos: c.hellos.Load(), Offers: c.offers.Load(), Withdrawals: c.withdrawals.Load(), Statuses: c.statuses.Load(),
		StatusRepeats: c.statusRepeats.Load(), Acks: c.acks.Load(), Superseded: c.superseded.Load(), Fetches: c.fetches.Load(),
		FetchRepeats: c.fetchRepeats.Load(), Chunks: c.chunks.Load(), StreamChunks: c.streamed.Load(), ChunksDropped: c.dropped.Load(), Gaps: c.gaps.Load(),
		Unasked: c.unasked.Load(), Duplicates: c.duplicates.Load(),
	}
	r.Download = f.downloads()
	r.Latency = LatencyResult{Chunk: c.chunkTime.latency(), Offer: c.offerTime.latency(), Connect: c.connectTime.latency()}
	r.Process.CPUSeconds, r.Process.RSS = processorTime(), resident()
	r.Errors = c.errorCounts()
	if r.Errors == nil {
		r.Errors = map[string]int64{}
	}
	f.judge(r)
}

func (f *Fleet) downloads() DownloadResult {
	c := &f.count
	d := DownloadResult{ImageBytes: c.imageBytes.Load(), ChunkBytes: c.chunkBytes.Load()}
	from, to := c.firstFetch.Load(), c.lastChunk.Load()
	if from == 0 || to <= from {
		return d
	}
	d.Seconds = f.seconds(from, to)
	s := max(d.Seconds, 0.001)
	d.MiBPerSecond = math.Round(float64(d.ImageBytes)/(1<<20)/s*100) / 100
	d.ChunksPerS = math.Round(float64(c.chunks.Load()) / s)
	return d
}

// judge says whether everything went as it should.
func (f *Fleet) judge(r *Result) {
	u := &r.Updates
	if u.WrongChunks > 0 || u.WrongImages > 0 {
		r.miss(nil, "wrong bytes came: %d chunks, %d whole images", u.WrongChunks, u.WrongImages)
	}
	if u.Otherwise > 0 {
		r.miss(nil, "%d updates ended otherwise than they were drawn", u.Otherwise)
	}
	for what, n := range r.Errors {
		if strings.HasPrefix(what, errContract.Error()) {
			r.miss(nil, "the service sent what the contract does not allow, %d times: %s", n, what)
		}
	}
	if r.Reasons == nil {
		r.Reasons = []string{}
	}
	r.Succeeded = len(r.Reasons) == 0
}

// footprint is what a process takes of memory, in bytes.
type footprint struct{ live, rss int64 }

// memory collects garbage and measures what is left.
func memory() footprint {
	// Each collection halves what a stack does not need, and pools are empty after two.
	for range 3 {
		debug.FreeOSMemory()
	}
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return footprint{int64(samples[0].Value.Uint64() + samples[1].Value.Uint64()), resident()}
}

// resident is the process's resident set in bytes, 0 if it is not known.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

func (p *ProcessResult) idle(before, after footprint, devices int) {
	p.IdlePerDevice = (after.live - before.live) / int64(devices)
	if after.rss > 0 {
		p.IdleRSSPerDevice = (after.rss - before.rss) / int64(devices)
	}
}
