package main

import (
	"time"

	"davit/bridge/fetcher"
	"davit/bridge/rangeset"
	"davit/schemas"
)

// adaptive fetches an image once, as the bridge and the module library do: windows and
// chunks are of the size that the path allows, and nothing is known of that at first.
type adaptive struct {
	held   rangeset.Set
	size   uint64
	window int // bytes that the module awaits at most
	next   *fetcher.Fetcher
}

func newAdaptive(size, window int, tag uint16) *adaptive {
	a := &adaptive{size: uint64(size), window: window}
	a.next = fetcher.New(a, tag)
	return a
}

// Size, Held, Has and Missing implement fetcher.Image.
func (a *adaptive) Size() uint64             { return a.size }
func (a *adaptive) Held() uint64             { return a.held.Total() }
func (a *adaptive) Has(r schemas.Range) bool { return a.held.Covers(r.Offset, r.End()) }
func (a *adaptive) Missing(limit int) []schemas.Range {
	return a.held.Gaps(schemas.Range{Length: a.size}, limit)
}

// took takes a chunk, unless it is not wanted any more.
func (a *adaptive) took(now time.Time, tag uint16, r schemas.Range) bool {
	if !a.next.Wants(tag, r) {
		return false
	}
	a.held.Add(r.Offset, r.End())
	a.next.Took(now, tag, r)
	return true
}

// askAdaptive asks for what the path has room for. mu is held.
func (m *module) askAdaptive(now time.Time) error {
	for {
		f, ok := m.adaptive.next.Ask(now, fetcher.Limits{Window: m.adaptive.window, Chunk: schemas.MaxChunkSize})
		if !ok {
			return nil
		}
		if err := m.send(f.Tag, f.Chunk, f.Ranges, f.Awaited); err != nil {
			return err
		}
	}
}

// arrivedAdaptive notes a chunk. mu is held.
func (m *module) arrivedAdaptive(h schemas.ChunkHeader, length int, now time.Time) error {
	if !m.adaptive.took(now, h.Transfer, schemas.Range{Offset: h.Offset, Length: uint64(length)}) {
		return nil
	}
	m.moved = now
	m.latency.add(now.Sub(m.askedAt[h.Transfer%256]), 1)
	if m.adaptive.Held() == m.adaptive.size {
		m.finish(nil)
		return nil
	}
	return m.askAdaptive(now)
}
