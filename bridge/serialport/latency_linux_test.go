package serialport

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// uart is a driver that knows of latency.
type uart struct {
	info   serialInfo
	set    int
	get    error
	refuse error
}

func (u *uart) GetSerial() (serialInfo, error) { return u.info, u.get }
func (u *uart) SetSerial(info serialInfo) error {
	u.set++
	if u.refuse == nil {
		u.info = info
	}
	return u.refuse
}

func TestLowLatency(t *testing.T) {
	was := serialInfo{Type: 4, Line: 1, Port: 0x2f8, IRQ: 3, Flags: 0x40, BaudBase: 115_200, IOMemBase: 7, IOMapBase: 9}
	lower := was
	lower.Flags |= asyncLowLatency
	for name, c := range map[string]struct {
		u    uart
		want serialInfo
		sets int
	}{
		"taken":         {uart{info: was}, lower, 1},
		"on already":    {uart{info: lower}, lower, 0},
		"unknown":       {uart{info: was, get: unix.ENOTTY}, was, 0},
		"not permitted": {uart{info: was, refuse: unix.EPERM}, was, 1},
		"not taken":     {uart{info: was, refuse: unix.EINVAL}, was, 1},
	} {
		lowLatency(&c.u)
		if c.u.info != c.want || c.u.set != c.sets {
			t.Errorf("%s: %+v after %d attempts, want %+v after %d", name, c.u.info, c.u.set, c.want, c.sets)
		}
	}
}

// The kernel copies struct serial_struct by its size: 72 bytes where a pointer
// has 8, 60 where it has 4.
func TestSerialInfoHasTheKernelsLayout(t *testing.T) {
	want := map[uintptr][3]uintptr{8: {72, 48, 64}, 4: {60, 44, 56}}[unsafe.Sizeof(uintptr(0))]
	var i serialInfo
	if got := [3]uintptr{unsafe.Sizeof(i), unsafe.Offsetof(i.IOMemBase), unsafe.Offsetof(i.IOMapBase)}; got != want || unsafe.Offsetof(i.Flags) != 16 {
		t.Errorf("size and offsets %d, want %d", got, want)
	}
}

// A terminal without a UART says that it knows nothing of it, and stays usable.
func TestLowLatencyOfAPseudoTerminal(t *testing.T) {
	_, path := pty(t)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := (device{fd}).GetSerial(); err == nil {
		t.Error("a pseudo-terminal has a UART")
	}
	lowLatency(device{fd})
	if _, err := (device{fd}).Get(); err != nil {
		t.Error(err)
	}
}

func TestReadReturnsWithTheFirstByte(t *testing.T) {
	d := &driver{}
	d.t.Cc[unix.VMIN], d.t.Cc[unix.VTIME] = 200, 5
	if err := configure(d, line8O1, false); err != nil {
		t.Fatal(err)
	}
	if d.asked.Cc[unix.VMIN] != 1 || d.asked.Cc[unix.VTIME] != 0 {
		t.Errorf("VMIN %d, VTIME %d", d.asked.Cc[unix.VMIN], d.asked.Cc[unix.VTIME])
	}
}
