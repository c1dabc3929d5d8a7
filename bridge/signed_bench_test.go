package bridge

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"davit/bridge/dialect/ayla"
	"davit/schemas"
	"davit/trust"
)

// BenchmarkVerifiedDownload fetches images of 16 MiB with blocks of 4 KiB over the real broker
// and real sockets to the spool, by turns with and without a signature, and compares
// the two by their medians: throughput, and the CPU time of the whole process, which has broker,
// service and bridge.
func BenchmarkVerifiedDownload(b *testing.B) {
	const size = 16 << 20
	key, err := trust.GenerateKey()
	if err != nil {
		b.Fatal(err)
	}
	s := newStage(b)
	password, err := s.accounts.AddBridge("rack-1", []string{pump})
	if err != nil {
		b.Fatal(err)
	}
	s.service.sums = map[string]string{}
	keys := Trust{Keys: trust.KeySet{Keys: []trust.PublicKey{key.Public()}, Threshold: 1}, Optional: true}
	stop := s.trusting(keys, password, nil, PortConfig{Device: pump, Path: "/dev/null", Dialect: ayla.Name, DeviceType: theType})
	defer stop()
	s.await("hello", func() bool { return s.service.isOnline(pump) })
	image, random := make([]byte, size), rand.NewChaCha8([32]byte{1})
	var before, wall, cpu [2][]time.Duration // before: until the image may be fetched
	fetch := func(signed int) {
		b.StopTimer()
		_, _ = random.Read(image) // none of its blocks is in the spool
		o := s.offerOf(image)
		if signed == 1 {
			bundle := signedBundle(b, image, key)
			o.Manifest, o.ManifestSize = s.keep(bundle), uint64(len(bundle))
		}
		runtime.GC() // of what was made for it
		b.StartTimer()
		began, busy := time.Now(), used(b)
		s.service.offer(pump, o)
		st := <-s.service.ended
		ended, accepted := time.Now(), s.service.accepted(st.Execution)
		cpu[signed] = append(cpu[signed], used(b)-busy)
		before[signed] = append(before[signed], accepted.Sub(began))
		wall[signed] = append(wall[signed], ended.Sub(accepted))
		if st.State != schemas.StateDownloaded {
			b.Fatalf("%s: %s", st.State, st.Detail)
		}
		b.StopTimer()
		s.await("the ack", func() bool { return s.service.hello(pump).Execution == "" })
		b.StartTimer()
	}
	fetch(0) // the path is known after it
	before, wall, cpu = [2][]time.Duration{}, [2][]time.Duration{}, [2][]time.Duration{}
	b.ReportAllocs()
	b.SetBytes(2 * size)
	b.ResetTimer()
	for i := range b.N {
		fetch(i % 2)
		fetch(1 - i%2)
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return d[len(d)/2].Seconds()
	}
	plain, verified := median(wall[0]), median(wall[1])
	b.ReportMetric(size/plain/1e6, "plain-MB/s")
	b.ReportMetric(size/verified/1e6, "verified-MB/s")
	b.ReportMetric(verified/plain, "time-ratio")
	b.ReportMetric(1e3*(median(before[1])-median(before[0])), "manifest-ms")
	b.ReportMetric(median(cpu[1])/median(cpu[0]), "cpu-ratio")
}

// accepted is when an execution was said to be accepted.
func (s *service) accepted(execution string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, st := range s.statuses {
		if st.Execution == execution && st.State == schemas.StateAccepted {
			return s.times[i]
		}
	}
	return time.Time{}
}

// keep has the service serve bytes by their SHA-256, which it returns.
func (s *stage) keep(b []byte) string {
	hash := sha256.Sum256(b)
	sum := hex.EncodeToString(hash[:])
	s.service.mu.Lock()
	defer s.service.mu.Unlock()
	s.service.images[sum], s.service.sums[sum] = bytes.Clone(b), sum
	return sum
}

func (s *stage) offerOf(image []byte) schemas.Offer {
	sum := s.keep(image)
	return schemas.Offer{
		V: schemas.Version, Execution: "ex-" + sum[:20], Attempt: 1, Image: sum, ImageType: "application", Version: newVersion, Size: uint64(len(image)),
		SHA256: sum, Chunk: schemas.ChunkHint{Preferred: 64 << 10, Max: schemas.MaxChunkSize}, Action: schemas.ActionDownload,
	}
}

func signedBundle(b *testing.B, image []byte, key trust.PrivateKey) []byte {
	now := trust.Moment(time.Now())
	m, err := trust.Build(bytes.NewReader(image), trust.Terms{
		ImageType: "application", DeviceTypes: []string{theType}, Version: newVersion, BlockSize: 4 << 10, Created: now, Expires: now.Add(time.Hour),
	})
	if err != nil {
		b.Fatal(err)
	}
	text, err := m.Encode()
	if err != nil {
		b.Fatal(err)
	}
	sig, err := key.Sign(text, m.TrustedComment())
	if err != nil {
		b.Fatal(err)
	}
	return trust.Signed{Text: text, Signatures: trust.EncodeSignatures([]trust.Signature{sig})}.Bundle()
}

// used is the CPU time of the process.
func used(b *testing.B) time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
