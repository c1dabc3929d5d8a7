package module

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"davit/bridge/fetcher"
	"davit/bridge/mqtt"
	"davit/bridge/rangeset"
	"davit/internal/logevent"
	"davit/schemas"
)

const (
	// syncBytes and syncEvery are after how many bytes, and how long after the last time,
	// the slot is synced and the record says so: what came since is what a crash costs.
	syncBytes = 256 << 10
	syncEvery = time.Second
	// maxMismatches is how often an image is fetched whose SHA-256 does not agree.
	maxMismatches = 3
)

// chunk is a chunk message, of the device's own topic or of the image's shared stream.
type chunk struct {
	payload []byte
	stream  bool
}

// transfer is how an update stands with the shared stream of its image.
type transfer struct {
	joining   bool // it is about to subscribe
	following bool // it is subscribed
}

// Size, Held, Missing and Has are the image as the fetcher sees it.
func (u *update) Size() uint64             { return u.offer.Size }
func (u *update) Held() uint64             { return u.have.Total() }
func (u *update) Has(r schemas.Range) bool { return u.have.Covers(r.Offset, r.End()) }
func (u *update) Missing(limit int) []schemas.Range {
	return u.have.Gaps(schemas.Range{Length: u.offer.Size}, limit)
}

// download fetches what the slot does not hold yet.
func (m *Module) download() {
	u := m.up
	var err error
	if u.slot, err = m.cfg.Host.Slot(u.offer); err != nil {
		m.stored(err)
		return
	}
	if img := m.rec.Image; img != nil && img.SHA256 == u.offer.SHA256 {
		for _, r := range img.Ranges {
			u.have.Add(r.Offset, min(r.End(), u.offer.Size))
		}
	} else {
		m.rec.Image = nil // before the first byte is overwritten
		m.save()
	}
	if u.Held() == u.Size() {
		m.verify()
		return
	}
	if u.state.Rank() < schemas.StateDownloading.Rank() { // not after a restart in the middle
		u.fetched = m.rec.Open.Trace
	}
	m.advance(schemas.StateDownloading)
	u.fetch = fetcher.New(u, uint16(time.Now().UnixNano()))
	u.deadline = time.Now().Add(m.cfg.Patience)
	m.follow(u)
}

// stored ends the update because the slot failed.
func (m *Module) stored(err error) {
	m.finish(schemas.Status{State: schemas.StateFailed, Cause: schemas.CauseStorage, Detail: err.Error()})
}

// tickDownload asks for more, and returns when to look again.
func (m *Module) tickDownload(now time.Time) time.Time {
	u := m.up
	if !now.Before(u.deadline) {
		m.finish(schemas.Status{
			State: schemas.StateFailed, Cause: schemas.CauseNetwork,
			Detail: fmt.Sprintf("No data from the service for %s, at %d of %d bytes.", m.cfg.Patience, u.Held(), u.Size()),
		})
		return time.Time{}
	}
	if u.transfer.joining {
		return u.deadline // in a moment most of it comes without being asked for by each device
	}
	limits := fetcher.Limits{Window: m.cfg.Window, Chunk: min(m.cfg.MaxChunk, u.offer.Chunk.Max), Follow: m.follows(u)}
	for {
		f, ok := u.fetch.Ask(now, limits)
		if !ok {
			break
		}
		f.Image = u.offer.Image
		if err := m.publish(&f, u.fetched); err != nil {
			m.log.Debug("fetch", "event", logevent.FetchNotSent, "error", err) // what does not come is asked for again
			break
		}
		u.fetched = nil
	}
	if at := u.fetch.Next(); !at.IsZero() && at.Before(u.deadline) {
		return at
	}
	return u.deadline
}

// publish publishes a fetch at once: it does not wait for the acknowledgements of what else is
// said.
func (m *Module) publish(f *schemas.Fetch, h *schemas.TraceHeader) error {
	msg, err := m.message(f, h)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(m.ctx, publishTimeout)
	defer cancel()
	return m.cfg.Transport.Publish(ctx, msg)
}

// takeChunks takes a chunk and those behind it, so that one fetch asks for what all of them
// have made room for.
func (m *Module) takeChunks(c chunk) {
	for range cap(m.chunks) {
		m.takeChunk(c)
		select {
		case c = <-m.chunks:
		default:
			return
		}
	}
}

func (m *Module) takeChunk(c chunk) {
	u := m.up
	if u == nil || u.fetch == nil {
		return
	}
	h, data, err := schemas.ParseChunk(c.payload)
	if err != nil {
		m.log.Debug("malformed chunk", "event", logevent.ChunkMalformed, "error", err)
		return
	}
	r := schemas.Range{Offset: h.Offset, Length: uint64(len(data))}
	wanted := u.fetch.Wants(h.Transfer, r)
	if c.stream {
		wanted = h.Transfer == 0 && r.End() <= u.Size() && m.follows(u)
	}
	if tag, _ := schemas.TagOf(u.offer.SHA256); h.Image != tag || !wanted {
		return
	}
	if !u.Has(r) {
		if _, err := u.slot.WriteAt(data, int64(r.Offset)); err != nil {
			m.stored(err)
			return
		}
		u.have.Add(r.Offset, r.End())
		u.deadline = time.Now().Add(m.cfg.Patience)
		u.unsynced += len(data)
	}
	u.fetch.Took(time.Now(), h.Transfer, r)
	switch {
	case u.Held() == u.Size():
		u.fetch = nil
		m.unfollow(u)
		m.verify()
		return
	case u.unsynced >= syncBytes && time.Since(u.syncedAt) >= syncEvery:
		m.keep(u)
		m.save()
	}
	if u.Held()-u.reported >= u.Size()/100 && time.Since(u.reportAt) >= progressEvery {
		m.progress()
	}
}

// keep has the record say what the slot holds.
func (m *Module) keep(u *update) {
	if u.slot == nil {
		return
	}
	u.unsynced, u.syncedAt = 0, time.Now()
	if err := u.slot.Sync(); err != nil {
		m.log.Error("the slot could not be synced", "event", logevent.SlotNotSynced, "error", err)
		return
	}
	m.rec.Image = &storedImage{SHA256: u.offer.SHA256, Ranges: slices.Clone(u.have.Ranges())}
}

// errChecksum: what was fetched is not the image.
var errChecksum = errors.New("the SHA-256 of what was fetched is not the image's")

// verify reads the image back, and goes on if it is the one that was offered.
func (m *Module) verify() {
	m.ask(func(u *update) error {
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(u.slot, 0, int64(u.offer.Size))); err != nil {
			return err
		}
		if hex.EncodeToString(h.Sum(nil)) != u.offer.SHA256 {
			return errChecksum
		}
		return u.slot.Sync()
	}, func(err error) {
		switch {
		case errors.Is(err, errChecksum):
			m.mismatch()
		case err != nil:
			m.stored(err)
		default:
			m.verified()
		}
	})
}

func (m *Module) mismatch() {
	u := m.up
	u.have, m.rec.Image = rangeset.Set{}, nil
	if u.mismatches++; u.mismatches >= maxMismatches {
		u.slot = nil // it holds nothing
		m.finish(schemas.Status{State: schemas.StateFailed, Cause: schemas.CauseChecksum, Detail: errChecksum.Error() + "."})
		return
	}
	m.log.Warn("fetching the image again", "event", logevent.FetchAgain, "error", errChecksum)
	m.download()
}

func (m *Module) verified() {
	m.keep(m.up)
	m.advance(schemas.StateDownloaded)
	if m.up.offer.Action == schemas.ActionDownload {
		return // until the ack
	}
	m.boot()
}

// follow listens on the image's shared stream, if there is one. After a mismatch each chunk is
// asked for.
func (m *Module) follow(u *update) {
	if !u.offer.Stream || u.mismatches > 0 || !m.connected {
		return
	}
	u.transfer.joining = true
	topic := schemas.StreamTopic(u.offer.SHA256)
	m.out.put(errand{key: "subscribe to " + topic, run: func(ctx context.Context) error {
		err := m.cfg.Transport.Subscribe(ctx, []mqtt.Subscription{{Topic: topic, QoS: schemas.KindChunk.QoS()}})
		m.mail.post(func() { u.transfer = transfer{following: err == nil && m.connected} })
		return err
	}})
}

func (m *Module) follows(u *update) bool { return u.transfer.following && u.mismatches == 0 }

// unfollow ends that. The outbox keeps it before the next subscription.
func (m *Module) unfollow(u *update) {
	if !u.transfer.joining && !u.transfer.following {
		return
	}
	u.transfer = transfer{}
	topic := schemas.StreamTopic(u.offer.SHA256)
	m.out.put(errand{key: "unsubscribe from " + topic, run: func(ctx context.Context) error {
		return m.cfg.Transport.Unsubscribe(ctx, []string{topic})
	}})
}
