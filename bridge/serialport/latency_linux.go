package serialport

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// asyncLowLatency asks the driver to hand received bytes on at once
// (Linux, include/uapi/linux/tty_flags.h, ASYNCB_LOW_LATENCY). ftdi_sio lowers
// its latency timer from 16 ms to 1 ms for it.
const asyncLowLatency = 1 << 13

// serialInfo is struct serial_struct (Linux, include/uapi/linux/serial.h). Only
// Flags is changed; the rest goes back to the driver as it came, because it
// takes all of it or nothing.
type serialInfo struct {
	Type, Line                int32
	Port                      uint32
	IRQ, Flags                int32
	XmitFIFOSize              int32
	CustomDivisor, BaudBase   int32
	CloseDelay                uint16
	IOType, Reserved          uint8
	Hub6                      int32
	ClosingWait, ClosingWait2 uint16
	IOMemBase                 uintptr
	IOMemRegShift             uint16
	PortHigh                  uint32
	IOMapBase                 uintptr
}

// latency is what lowLatency needs of a port; tests put a driver in its place.
type latency interface {
	GetSerial() (serialInfo, error)
	SetSerial(serialInfo) error
}

// lowLatency asks for bytes without delay. It is an optimisation: a driver that
// knows nothing of it (ENOTTY, EINVAL), or does not let this user set it
// (EPERM), leaves the port as it was, and so does any other error. The driver may
// keep the flag after Close; the next program that minds sets its own.
func lowLatency(d latency) {
	info, err := d.GetSerial()
	if err != nil || info.Flags&asyncLowLatency != 0 {
		return
	}
	info.Flags |= asyncLowLatency
	_ = d.SetSerial(info)
}

func (d device) GetSerial() (serialInfo, error) {
	var info serialInfo
	err := d.serial(unix.TIOCGSERIAL, &info)
	return info, err
}

func (d device) SetSerial(info serialInfo) error { return d.serial(unix.TIOCSSERIAL, &info) }

func (d device) serial(request uintptr, info *serialInfo) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), request, uintptr(unsafe.Pointer(info)))
	if errno != 0 {
		return errno
	}
	return nil // not errno: a zero Errno is not a nil interface
}
