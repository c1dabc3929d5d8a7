package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

const (
	// fewBytes and veryFewBytes are how much room is little for a data folder: images are some
	// megabytes, and a store that cannot grow stops the service.
	fewBytes     = 1 << 30
	veryFewBytes = 100 << 20
	tenGiB       = 10 << 30 // on a large disk a small share is much
	// behind is how much a clock may be behind what has happened already.
	behind = time.Minute
	// apart is how much the clocks of two machines may differ.
	apart = 30 * time.Second
	// spareFiles is how many files a service has open beside its connections.
	spareFiles = 512
	// connectionMemory is what the kernel may take for an idle connection, in bytes.
	connectionMemory = 16 << 10
	pageSize         = 4096
)

// firstYear is before every release: a clock that says less has not been set.
const firstYear = 2025

// disk checks the room of the folder's file system.
func (s System) disk(dir string) []Finding {
	at := dir
	for at != filepath.Dir(at) { // a folder that is not there yet
		if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		at = filepath.Dir(at)
	}
	room, err := s.Room(at)
	if err != nil {
		return []Finding{warning(fmt.Sprintf("the room of %s is not known: %v", at, err), "look with df "+at)}
	}
	var found []Finding
	switch text := fmt.Sprintf("the disk of %s has %s left of %s", dir, bytes(room.Free), bytes(room.All)); {
	case room.Free < veryFewBytes:
		found = append(found, failed(text, "make room: nothing can be recorded on a full disk"))
	case room.Free < fewBytes || room.Free < tenGiB && room.Free < room.All/20:
		found = append(found, warning(text, "make room, or remove images that are not needed any more (davit image list)"))
	}
	if room.AllNodes > 0 && room.FreeNodes < max(1000, room.AllNodes/50) {
		f := warning(fmt.Sprintf("the disk of %s has %d inodes left of %d", dir, room.FreeNodes, room.AllNodes), "remove small files of others (df -i says where); each image is a file")
		if room.FreeNodes < 50 {
			f.Level = Fail
		}
		found = append(found, f)
	}
	return orGood(found, "%s free of %s on the disk of %s", bytes(room.Free), bytes(room.All), dir)
}

// clock checks the time against what is known to be past, and whether somebody keeps it.
func (s System) clock(newest time.Time) []Finding {
	now := s.Now()
	var found []Finding
	switch {
	case now.Year() < firstYear:
		found = append(found, failed(fmt.Sprintf("the clock says %s: it has not been set since the machine started", stamp(now)), "set it, and have it kept (chrony, systemd-timesyncd): timers, certificates and key lists go by it"))
	case !newest.IsZero() && newest.Sub(now) > behind:
		found = append(found, failed(fmt.Sprintf("the clock says %s, and something in the data folder is of %s: it is %s behind", stamp(now), stamp(newest), newest.Sub(now).Round(time.Second)), "set it before the service is started: timers of rollouts wait until it has caught up"))
	}
	yes, known := s.Synchronised()
	if known && !yes {
		found = append(found, warning("no NTP client keeps the clock", "run one (chrony, systemd-timesyncd); in a container the host's counts"))
	}
	if !known {
		return orGood(found, "%s; whether an NTP client keeps it is not known", stamp(now))
	}
	return orGood(found, "%s, kept by an NTP client", stamp(now))
}

// newest is when a file of a folder was written last, the zero time if there is none.
func newest(dir string) time.Time {
	var last time.Time
	entries, _ := os.ReadDir(dir) // what cannot be read tells nothing
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			last = later(last, info.ModTime())
		}
	}
	return last
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// serviceClock compares the clock with a service's (RFC 9110, section 6.6.1).
func (s System) serviceClock(ctx context.Context, url string) []Finding {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/livez", nil)
	if err != nil {
		return []Finding{warning("the URL of the service is none: "+err.Error(), "correct DAVIT_SERVER")}
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: limit / 2}).Do(req)
	if err != nil {
		return []Finding{warning(fmt.Sprintf("the service of DAVIT_SERVER cannot be asked for its time: %v", err), "correct DAVIT_SERVER, or leave it out")}
	}
	defer resp.Body.Close()
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return nil // it tells no time
	}
	if d := s.Now().Sub(theirs).Abs(); d > apart {
		return []Finding{failed(fmt.Sprintf("this machine's clock says %s, and the service's %s", stamp(s.Now()), stamp(theirs)), "set the one that is wrong, and have both kept (chrony, systemd-timesyncd)")}
	}
	return []Finding{good("it agrees with the service's clock")}
}

// openFilesFor checks the limit of open files against a number of connections.
func (s System) openFilesFor(connections int) []Finding {
	most, err := s.OpenFiles()
	if err != nil {
		return []Finding{warning(fmt.Sprintf("the limit of open files is not known: %v", err), "look with ulimit -Hn")}
	}
	need := uint64(connections + spareFiles)
	switch do := fmt.Sprintf("raise it: LimitNOFILE=%d in the unit, or ulimit -Hn", max(65536, 2*need)); {
	case most < spareFiles:
		return []Finding{failed(fmt.Sprintf("a process may have %d files open, which is not enough for any service", most), do)}
	case most < need:
		return []Finding{warning(fmt.Sprintf("a process may have %d files open, and %s at a time need some %d", most, count(connections, "connection"), need), do)}
	}
	return []Finding{good("a process may have %d files open, and needs some %d", most, need)}
}

// kernel gives hints on limits of the kernel for that many connections.
func (s System) kernel(connections int) []Finding {
	var found []Finding
	if n, ok := s.Machine.Number("proc/sys/net/core/somaxconn"); ok && n < 1024 && connections > int(n) {
		found = append(found, warning(fmt.Sprintf("net.core.somaxconn is %d: when %s come back at a time, most are turned away at first", n, count(connections, "device")), "sysctl -w net.core.somaxconn=4096, and the same in /etc/sysctl.d"))
	}
	if low, ok := s.Machine.TCPMemory(); ok && low*pageSize < int64(connections)*connectionMemory {
		found = append(found, warning(fmt.Sprintf("net.ipv4.tcp_mem lets all connections have %s, and %s may take %s", bytes(uint64(low*pageSize)), count(connections, "connection"), bytes(uint64(connections*connectionMemory))), "raise the third number of net.ipv4.tcp_mem"))
	}
	return orGood(found, "limits on connections are in order for %s", count(connections, "device"))
}

// bytes is a size for people.
func bytes(n uint64) string {
	const unit = 1024
	for _, u := range []struct {
		name string
		size uint64
	}{{"TiB", unit * unit * unit * unit}, {"GiB", unit * unit * unit}, {"MiB", unit * unit}, {"KiB", unit}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" }
