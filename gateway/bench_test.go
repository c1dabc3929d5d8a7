package gateway_test

import (
	"context"
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

// BenchmarkStatus carries status reports from 200 devices behind one bridge to
// the orchestrator's door, and an ack for each back, with as many reports on
// their way as there are devices.
func BenchmarkStatus(b *testing.B) {
	br := newEmbedded(b)
	orch := newFakeDevices()
	var s *gateway.Sessions
	orch.onStatus = func(ctx context.Context, device string, st schemas.Status) error {
		return s.Ack(ctx, device, schemas.Ack{V: 1, Execution: st.Execution, Attempt: st.Attempt, Seq: st.Seq, State: st.State})
	}
	s = startSessions(b, gateway.SessionsOptions{Broker: br.URL(), Devices: orch})
	ids := fleetOf(200)
	bridge := dial(b, br, "fleet", ids...)
	var subs []paho.SubscribeOptions
	for _, id := range ids {
		subs = append(subs, paho.SubscribeOptions{Topic: schemas.Topic{Device: id, Kind: schemas.KindAck}.String(), QoS: 1})
	}
	if _, err := bridge.client.Subscribe(b.Context(), &paho.Subscribe{Subscriptions: subs}); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	credit := make(chan struct{}, len(ids))
	for p := range 32 {
		wg.Go(func() {
			for n := p; n < b.N; n += 32 {
				credit <- struct{}{}
				payload, err := schemas.Encode(status(uint64(n + 1)))
				if err != nil {
					b.Error(err)
					return
				}
				topic := schemas.Topic{Device: ids[n%len(ids)], Kind: schemas.KindStatus}.String()
				if _, err := bridge.client.Publish(b.Context(), &paho.Publish{Topic: topic, QoS: 1, Payload: payload}); err != nil {
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
