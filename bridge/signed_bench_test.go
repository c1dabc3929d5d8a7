package bridge

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"davit/bridge/dialect/ayla"
	"davit/internal/sim"
	"davit/schemas"
	"davit/trust"
)

// BenchmarkVerifiedDownload fetches images of 16 MiB with blocks of 4 KiB over the real broker
// and real sockets to the spool, by turns with and without a signature, and compares
// the two: throughput, and the CPU time of the whole process, which has broker, service and bridge.
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
	image := sim.BuildDemoImage(newVersion, size, 1)
	var wall, cpu [2]time.Duration
	n := 0
	fetch := func(signed int) {
		b.StopTimer()
		n++
		binary.BigEndian.PutUint64(image[size/2:], uint64(n)) // another image each time
		o := s.offerOf(image)
		if signed == 1 {
			bundle := signedBundle(b, image, key)
			o.Manifest, o.ManifestSize = s.keep(bundle), uint64(len(bundle))
		}
		before := used(b)
		b.StartTimer()
		began := time.Now()
		s.service.offer(pump, o)
		st := <-s.service.ended
		wall[signed] += time.Since(began)
		cpu[signed] += used(b) - before
		if st.State != schemas.StateDownloaded {
			b.Fatalf("%s: %s", st.State, st.Detail)
		}
		b.StopTimer()
		s.await("the ack", func() bool { return s.service.hello(pump).Execution == "" })
		b.StartTimer()
	}
	fetch(0) // the path is known after it
	wall, cpu = [2]time.Duration{}, [2]time.Duration{}
	b.ReportAllocs()
	b.SetBytes(2 * size)
	b.ResetTimer()
	for range b.N {
		fetch(0)
		fetch(1)
	}
	rate := func(d time.Duration) float64 { return float64(b.N) * size / d.Seconds() / 1e6 }
	b.ReportMetric(rate(wall[0]), "plain-MB/s")
	b.ReportMetric(rate(wall[1]), "verified-MB/s")
	b.ReportMetric(float64(wall[1])/float64(wall[0]), "time-ratio")
	b.ReportMetric(float64(cpu[1])/float64(cpu[0]), "cpu-ratio")
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
