package broker

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"davit/schemas"
)

// The benchmarks of the short way measure what chunks cost the thread that
// sends them, beside the bare system call with the same bytes on the same
// socket. What the kernel does to deliver over loopback is in all of them.
// cpu-ns/chunk is time of the thread; ratio compares it with the bare writev(2)
// in the same run.

// BenchmarkShortWay sends batches of chunks to one client: with write(2) of all
// bytes in one piece, with writev(2) of the packets, and with Session.Send.
func BenchmarkShortWay(b *testing.B) {
	for _, size := range []int{4 << 10, 16 << 10} {
		for _, count := range []int{1, 8, 16} {
			b.Run(fmt.Sprintf("%dKiB/%d", size>>10, count), func(b *testing.B) { benchShortWay(b, size, count) })
		}
	}
}

func benchShortWay(b *testing.B, size, count int) {
	ps := newPeers(b, 1, "")
	p := ps.all[0]
	image := newImage(4 << 20)
	chunks := chunksOf(image, size)
	round := func(i int) []schemas.Chunk { return chunks[i*count:][:count] }
	batches := encodedBatches(b, image, address{version: 5, topic: topic(p.user, schemas.KindChunk)}, len(chunks)/count, round)
	ps.compare(b, count, len(batches), []contender{
		{"write", func(i int) (int, error) { return unix.Write(p.fd, image.mapped[:batches[i].size]) }},
		{"writev", func(i int) (int, error) { return p.writev(batches[i]) }},
		{"send", func(i int) (int, error) {
			n, err := p.Send(p.user, image, round(i), nil)
			return batches[i].sizeOf(n), err
		}},
	})
}

// BenchmarkMulticast sends chunks to each of 100 followers: with writev(2) to
// one after the other, and with Broker.Multicast.
func BenchmarkMulticast(b *testing.B) {
	for _, count := range []int{1, 8} {
		b.Run(fmt.Sprintf("4KiB/%d", count), func(b *testing.B) { benchMulticast(b, 4<<10, count) })
	}
}

func benchMulticast(b *testing.B, size, count int) {
	stream := schemas.StreamTopic(strings.Repeat("a", 64))
	ps := newPeers(b, 100, stream)
	image := newImage(4 << 20)
	chunks := chunksOf(image, size)
	round := func(i int) []schemas.Chunk { return chunks[i*count:][:count] }
	batches := encodedBatches(b, image, address{version: 5, topic: stream}, len(chunks)/count, round)
	sessions := make([]*Session, len(ps.all))
	for i, p := range ps.all {
		sessions[i] = p.Session
	}
	ps.compare(b, len(sessions)*count, len(batches), []contender{
		{"writev", func(i int) (sent int, err error) {
			for _, p := range ps.all {
				n, err := p.writev(batches[i])
				if err != nil {
					return sent, err
				}
				sent += n
			}
			return sent, nil
		}},
		{"multicast", func(i int) (int, error) {
			return batches[i].size / count * ps.broker.Multicast(stream, image, round(i), sessions), nil
		}},
	})
}

func encodedBatches(b *testing.B, image *testImage, to address, n int, round func(i int) []schemas.Chunk) []*batch {
	batches := make([]*batch, n)
	for i := range batches {
		batches[i] = newBatch().(*batch)
		check(b, batches[i].fill(&to, image, image.mapped, round(i)))
	}
	return batches
}

// contender sends one round in its way and returns how many bytes have left.
type contender struct {
	name string
	send func(i int) (int, error)
}

// peers are sessions whose clients read and forget.
type peers struct {
	broker *Broker
	all    []peer
	total  int64        // bytes sent to all
	open   int          // those of them that may not have been read yet
	read   atomic.Int64 // by all
}

type peer struct {
	module
	fd int // of the session's socket
}

func newPeers(b *testing.B, n int, stream string) *peers {
	br, fetches := fetchingBroker(b, nil)
	ps := &peers{broker: br}
	for i := range n {
		p := peer{module: moduleOn(b, dialTCP(b, br.addr()), addDevice(b, br, fmt.Sprint("d", i)), fetches, connectOptions{})}
		if stream != "" {
			p.subscribe(0, stream)
		}
		raw, err := p.conn.socket.(*socket).Conn.(syscall.Conn).SyscallConn()
		check(b, err)
		check(b, raw.Control(func(fd uintptr) { p.fd = int(fd) })) // open as long as the benchmark runs
		check(b, p.SetReadDeadline(time.Time{}))
		go func() { _, _ = io.Copy((*forget)(ps), onlyRead{p.mqttConn}) }()
		ps.all = append(ps.all, p)
	}
	return ps
}

// forget counts what the clients read.
type forget peers

func (f *forget) Write(p []byte) (int, error) {
	f.read.Add(int64(len(p)))
	return len(p), nil
}

// onlyRead keeps io.Copy from calls that are no read(2).
type onlyRead struct{ io.Reader }

func (p *peer) writev(b *batch) (int, error) {
	var parts [2 * maxBatch]unix.Iovec
	for i, x := range b.packets {
		parts[2*i].Base, parts[2*i+1].Base = &x.head[0], &x.data[0]
		parts[2*i].SetLen(len(x.head))
		parts[2*i+1].SetLen(len(x.data))
	}
	n, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(p.fd), uintptr(unsafe.Pointer(&parts[0])), uintptr(2*len(b.packets)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// compare runs all contenders; a round sends so many chunks.
func (ps *peers) compare(b *testing.B, chunks, rounds int, contenders []contender) {
	var bare float64
	for _, c := range contenders {
		b.Run(c.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			b.ReportAllocs()
			var cpu time.Duration
			for i := 0; b.Loop(); i = (i + 1) % rounds {
				start := threadTime(b)
				n, err := c.send(i)
				cpu += threadTime(b) - start
				check(b, err)
				ps.sent(n)
			}
			each := float64(cpu) / float64(b.N*chunks)
			b.ReportMetric(each, "cpu-ns/chunk")
			b.ReportMetric(float64(b.Elapsed())/float64(b.N*chunks), "ns/chunk")
			switch {
			case c.name == "writev":
				bare = each
			case bare > 0:
				b.ReportMetric(each/bare, "ratio")
			}
		})
	}
}

// sent waits for the clients when a lot is under way, so that nothing is cut.
func (ps *peers) sent(n int) {
	ps.total += int64(n)
	if ps.open += n; ps.open < len(ps.all)*256<<10 {
		return
	}
	for ps.read.Load() < ps.total {
		runtime.Gosched()
	}
	ps.open = 0
}

// threadTime is how long this thread has run.
func threadTime(b *testing.B) time.Duration {
	var t unix.Timespec
	check(b, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t))
	return time.Duration(t.Nano())
}
