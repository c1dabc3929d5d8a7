package broker

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"davit/schemas"
)

// BenchmarkShortWay measures what one chunk costs the thread that sends it,
// beside the bare system call with the same bytes on the same socket: writev(2)
// of all packets of the batch, and write(2) of them in one piece. What the
// kernel does to deliver over loopback is in all three. cpu-ns/chunk is time of the
// thread; ratio compares it to the bare writev(2) in the same run.
func BenchmarkShortWay(b *testing.B) {
	for _, size := range []int{4 << 10, 16 << 10} {
		for _, count := range []int{1, 8, 16} {
			b.Run(fmt.Sprintf("%dKiB/%d", size>>10, count), func(b *testing.B) { benchShortWay(b, size, count) })
		}
	}
}

func benchShortWay(b *testing.B, size, count int) {
	p := newPair(b)
	image := newImage(4 << 20)
	chunks := chunksOf(image, size)
	batches := make([]*batch, len(chunks)/count)
	to := address{version: 5, topic: topic("d", schemas.KindChunk)}
	for i := range batches {
		batches[i] = newBatch().(*batch)
		check(b, batches[i].fill(&to, image.mapped, chunks[i*count:(i+1)*count]))
	}
	var bare float64
	for _, way := range []struct {
		name string
		send func(i int) (int, error)
	}{
		{"write", func(i int) (int, error) { return unix.Write(p.fd, image.mapped[i*count*size:][:batches[i].size]) }},
		{"writev", func(i int) (int, error) { return p.writev(batches[i]) }},
		{"send", func(i int) (int, error) {
			n, err := p.session.Send("d", image, chunks[i*count:(i+1)*count], nil)
			return batches[i].sizeOf(n), err
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			b.ReportAllocs()
			var cpu time.Duration
			for i := 0; b.Loop(); i = (i + 1) % (len(batches) - 1) {
				start := threadTime(b)
				n, err := way.send(i)
				cpu += threadTime(b) - start
				if err != nil || n != batches[i].size {
					b.Fatalf("%d of %d bytes sent: %v", n, batches[i].size, err)
				}
				p.sent(n)
			}
			each := float64(cpu) / float64(b.N*count)
			b.ReportMetric(each, "cpu-ns/chunk")
			b.ReportMetric(float64(b.Elapsed())/float64(b.N*count), "ns/chunk")
			switch way.name {
			case "writev":
				bare = each
			case "send":
				b.ReportMetric(each/bare, "ratio")
			}
		})
	}
}

// threadTime is how long this thread has run.
func threadTime(b *testing.B) time.Duration {
	var t unix.Timespec
	check(b, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t))
	return time.Duration(t.Nano())
}

// pair is a session and its client, which reads and forgets.
type pair struct {
	session *Session
	fd      int // of the session's socket
	total   int64
	open    int // bytes of total that the client may not have read yet
	read    atomic.Int64
}

func newPair(b *testing.B) *pair {
	p := &pair{}
	var fetches <-chan fetched
	br := start(b, func(c *Config) {
		fetches = takeFetches(c)
		c.Metrics = NewMetrics(prometheus.NewRegistry())
	})
	c := connect(b, br.addr(), connectOptions{login: addDevice(b, br, "d")})
	c.subscribe(0, topic("d", schemas.KindChunk))
	c.publish(topic("d", schemas.KindFetch), 0, false, "fetch")
	p.session = (<-fetches).from
	raw, err := p.session.conn.socket.(*socket).Conn.(syscall.Conn).SyscallConn()
	check(b, err)
	check(b, raw.Control(func(fd uintptr) { p.fd = int(fd) })) // open as long as the benchmark runs
	_ = c.SetReadDeadline(time.Time{})
	go func() {
		buf := make([]byte, 256<<10)
		for {
			n, err := c.Conn.Read(buf)
			if err != nil {
				return
			}
			p.read.Add(int64(n))
		}
	}()
	return p
}

func (p *pair) writev(b *batch) (int, error) {
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

// sent waits for the client when a lot is under way.
func (p *pair) sent(n int) {
	p.total += int64(n)
	if p.open += n; p.open < 512<<10 {
		return
	}
	for p.read.Load() < p.total {
		runtime.Gosched()
	}
	p.open = 0
}
