package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"davit/bridge"
	"davit/bridge/portname"
	"davit/internal/machine"
)

// lowTimer is the latency timer in milliseconds at which an FTDI adapter holds no byte back (FTDI, AN232B-04).
const lowTimer = 1

// serialPorts checks the ports of a bridge. None is opened: some host MCUs are reset by that.
func (s System) serialPorts(ports []bridge.PortConfig, running *machine.Process) []Finding {
	var found []Finding
	for _, p := range ports {
		found = append(found, s.serialPort(p, running)...)
	}
	if m, ok := s.Machine.Running("ModemManager"); ok {
		found = append(found, warning(fmt.Sprintf("%s runs: it opens serial adapters that are plugged in and writes to them, in the middle of an update as well", m), "systemctl disable --now ModemManager, or have udev set ID_MM_DEVICE_IGNORE=1 for the adapters"))
	}
	return found
}

func (s System) serialPort(p bridge.PortConfig, running *machine.Process) []Finding {
	what := fmt.Sprintf("port %s of %s", p.Path, p.Device)
	name, err := portname.Parse(p.Path)
	if err != nil {
		return []Finding{failed(fmt.Sprintf("%s: %v", what, err), "davit bridge ports lists the names of this machine's ports")}
	}
	path, err := s.Ports.Resolve(name)
	if err != nil {
		return []Finding{failed(what+" is not there: "+err.Error(), "plug the adapter in, or correct the name")}
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return []Finding{failed(fmt.Sprintf("%s is not there: %v", what, err), "plug the adapter in, or name another port; davit bridge ports lists those of this machine")}
	case info.Mode()&fs.ModeCharDevice == 0:
		return []Finding{failed(fmt.Sprintf("%s: %s is no serial port but a %s", what, path, kindOrFile(info.Mode())), "davit bridge ports lists those of this machine")}
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK|unix.W_OK, unix.AT_EACCESS); err != nil {
		group := groupOf(info)
		return []Finding{failed(fmt.Sprintf("%s: %s may not use %s, which is for the group %s (mode %04o)", what, me(), path, group, info.Mode().Perm()), fmt.Sprintf("usermod -aG %s USER, and start the bridge anew, or SupplementaryGroups=%s in its unit", group, group))}
	}
	if strings.HasPrefix(path, "/dev/pts/") {
		return []Finding{good("%s is a pseudo-terminal: a program plays the host MCU", what)}
	}
	holder, held := s.Machine.Holder(path)
	if held && (running == nil || holder.PID != running.PID) {
		return []Finding{failed(fmt.Sprintf("%s is open in %s", what, holder), "stop that process: two that read one line each get a part of it")}
	}
	text := what + " is there and may be used"
	if held {
		text = what + " is open in the bridge that runs here"
	}
	timer, ok := s.latency(path)
	switch {
	case ok && timer > lowTimer && held:
		return []Finding{warning(fmt.Sprintf("%s: its adapter holds bytes back for up to %d ms (latency_timer), which costs much of the line's pace", text, timer), fmt.Sprintf("echo %d > /sys/class/tty/%s/device/latency_timer, or a udev rule with ATTR{latency_timer}=\"%d\"", lowTimer, filepath.Base(path), lowTimer))}
	case ok && timer > lowTimer:
		text += fmt.Sprintf("; the bridge lowers its adapter's latency timer from %d ms to %d ms", timer, lowTimer)
	}
	return []Finding{good("%s", text)}
}

// latency is the latency timer of an FTDI adapter in milliseconds (Linux, drivers/usb/serial/ftdi_sio.c).
func (s System) latency(path string) (int, bool) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	b, err := os.ReadFile(filepath.Join(s.Root, "sys/class/tty", filepath.Base(path), "device/latency_timer"))
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return n, err == nil
}

// groupOf is the name of the group of a file, or its number.
func groupOf(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "dialout"
	}
	id := fmt.Sprint(st.Gid)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}
