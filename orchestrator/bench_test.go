package orchestrator_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"davit/orchestrator"
	"davit/orchestrator/boltstore"
	"davit/schemas"
)

// BenchmarkStatus reports progress of executions from 1, 64 and 1000 devices
// at a time, with updates committed in groups and each by itself.
func BenchmarkStatus(b *testing.B) {
	for _, group := range []struct {
		name string
		max  int
	}{{"grouped", 0}, {"single", 1}} {
		for _, producers := range []int{1, 64, 1000} {
			b.Run(fmt.Sprintf("%s/%d", group.name, producers), func(b *testing.B) {
				e := newEnv(b, boltAt(b, filepath.Join(b.TempDir(), "store.db"), func(o *boltstore.Options) {
					o.MaxGroup = group.max
				}))
				if group.max > 0 {
					orchestrator.TakeTogether(e.Service, group.max)
				}
				ids := e.fleet(producers)
				e.job("j", e.image("2", content(1000, 1)).ID, ids...)
				list, _, err := e.JobExecutions(ctx, "j", orchestrator.ExecutionFilter{}, orchestrator.Page{Limit: 1000})
				e.ok(err)
				var left atomic.Int64
				left.Store(int64(b.N))
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for _, x := range list {
					wg.Go(func() {
						for seq := uint64(1); left.Add(-1) >= 0; seq++ {
							s := status(x, seq, schemas.StateInstalling)
							s.BytesDone = seq % 1000
							if err := e.Status(ctx, x.Device, s); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
			})
		}
	}
}

// nullPublisher loses everything.
type nullPublisher struct{ sent chan struct{} }

func (nullPublisher) Offer(context.Context, string, schemas.Offer) error     { return nil }
func (nullPublisher) Withdraw(context.Context, string) error                 { return nil }
func (nullPublisher) Forget(context.Context, string) error                   { return nil }
func (nullPublisher) Ack(context.Context, string, schemas.Ack) error         { return nil }
func (nullPublisher) Profile(context.Context, string, schemas.Profile) error { return nil }
func (p nullPublisher) Chunk(context.Context, string, []byte) error {
	p.sent <- struct{}{}
	return nil
}

// BenchmarkFetch is a fetch of sixteen chunks that a session takes at once.
func BenchmarkFetch(b *testing.B) {
	e := newEnv(b)
	e.fleet(1)
	m := e.image("2", content(1<<20, 1))
	e.job("j", m.ID, "d000")
	e.start()
	defer e.stop()
	taken := make(chan struct{}, 1) // the call that fetches may send them itself
	s := everything(nil)
	s.received = func(c schemas.Chunk) {
		if c.Offset == 15*4096 {
			taken <- struct{}{}
		}
	}
	f := fetch(m, 4096, schemas.Range{Length: 16 * 4096})
	b.SetBytes(16 * 4096)
	b.ReportAllocs()
	for b.Loop() {
		f.Ranges = []schemas.Range{{Length: 16 * 4096}}
		e.ok(e.askOver("d000", f, s))
		<-taken
	}
}

// BenchmarkChunk streams chunks of 4 KiB, sixteen to a fetch. What is allocated
// is the fetch's, that is one sixteenth of it per chunk.
func BenchmarkChunk(b *testing.B) {
	sent := make(chan struct{}, 64)
	e := newEnv(b, func(o *orchestrator.Options) { o.Publisher = nullPublisher{sent} })
	e.fleet(1)
	m := e.image("2", content(1<<20, 1))
	e.job("j", m.ID, "d000")
	e.start()
	defer e.stop()
	b.SetBytes(16 * 4096)
	b.ReportAllocs()
	for b.Loop() {
		e.ok(e.ask("d000", fetch(m, 4096, schemas.Range{Length: 16 * 4096})))
		for range 16 {
			<-sent
		}
	}
	b.ReportMetric(float64(b.N)*16/b.Elapsed().Seconds(), "chunks/s")
}
