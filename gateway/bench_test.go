package gateway_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"davit/gateway"
	"davit/schemas"
)

// BenchmarkChunk carries 4 KiB chunks through paho, the broker and loopback to
// a bridge that acts for 16 devices, with 128 chunks on their way.
func BenchmarkChunk(b *testing.B) {
	for name, start := range brokers() {
		for _, publishers := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/publishers=%d", name, publishers), func(b *testing.B) {
				benchmarkChunk(b, start(b), publishers)
			})
		}
	}
}

func benchmarkChunk(b *testing.B, br testBroker, publishers int) {
	s := startSessions(b, gateway.SessionsOptions{Broker: br.URL(), Devices: newFakeDevices()})
	ids := fleetOf(16)
	bridge := dial(b, br, "fleet", ids...)
	var subs []paho.SubscribeOptions
	for _, id := range ids {
		subs = append(subs, paho.SubscribeOptions{Topic: schemas.Topic{Device: id, Kind: schemas.KindChunk}.String()})
	}
	if _, err := bridge.client.Subscribe(b.Context(), &paho.Subscribe{Subscriptions: subs}); err != nil {
		b.Fatal(err)
	}
	chunk := append(schemas.ChunkHeader{}.AppendTo(nil), make([]byte, schemas.DefaultChunkSize)...)
	credit := make(chan struct{}, 128)
	b.SetBytes(schemas.DefaultChunkSize)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for n := p; n < b.N; n += publishers {
				credit <- struct{}{}
				if err := s.Chunk(b.Context(), ids[n%len(ids)], chunk); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	for range b.N {
		bridge.hear()
		<-credit
	}
	wg.Wait()
}
