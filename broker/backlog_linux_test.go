package broker

import (
	"io"
	"testing"

	"davit/schemas"
)

// What a client does not read is its backlog, until its system has taken it.
func TestBacklog(t *testing.T) {
	b, fetches := fetchingBroker(t, nil)
	m := moduleOn(t, dialTCP(t, b.addr()), addDevice(t, b, "d"), fetches, connectOptions{})
	eventually(t, "nothing is on its way", func() bool { return m.Backlog() == 0 })
	image := newImage(8 << 20)
	taken := 0
	for _, c := range chunksOf(image, 64<<10) {
		n, err := m.Send("d", image, []schemas.Chunk{c, c}, func() {})
		check(t, err)
		if taken += n; n < 2 {
			break
		}
	}
	if n := m.Backlog(); n == 0 || n > taken*(64<<10+100) {
		t.Errorf("the backlog is %d bytes after %d chunks that nobody reads", n, taken)
	}
	if got := testing.AllocsPerRun(100, func() { m.Backlog() }); got > 0 {
		t.Errorf("%v allocations", got)
	}
	go func() { _, _ = io.Copy(io.Discard, m.mqttConn) }()
	eventually(t, "all has arrived", func() bool { return m.Backlog() == 0 })
	_ = m.mqttConn.Close()
	eventually(t, "the session has ended", func() bool {
		_, err := m.Send("d", image, chunksOf(image, 64)[:1], func() {})
		return err != nil
	})
	if n := m.Backlog(); n != 0 {
		t.Errorf("the backlog of a session that has ended is %d", n)
	}
}
