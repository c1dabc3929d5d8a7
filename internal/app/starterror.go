package app

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"davit/internal/durable"
	"davit/internal/machine"
)

// startError adds to an error of the start what a person needs to do something about it: who holds
// an address, and whose a file is.
func startError(err error, m machine.Machine) error {
	var op *net.OpError
	var path *fs.PathError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &op) && op.Op == "listen" && op.Addr != nil:
		return listenError(err, op.Addr.String(), m)
	case errors.As(err, &path) && errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: this program runs as %s, and %s", err, machine.UserName(os.Geteuid()), ownerOf(path.Path))
	case durable.IsNoSpace(err):
		return fmt.Errorf("%w; make room on that disk", err)
	case errors.As(err, &path) && errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w; mount it for writing or name a folder elsewhere", err)
	}
	return err
}

// listenError says why an address cannot be listened on.
func listenError(err error, addr string, m machine.Machine) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		who := "another process"
		p, ok := m.Listener(addr)
		if ok && p.PID == os.Getpid() {
			return fmt.Errorf("%w: another listener of this program has %s; give one of them another port", err, addr)
		}
		if ok {
			who = p.String()
		}
		return fmt.Errorf("%w: %s is held by %s; stop that process or choose another address", err, addr, who)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: ports below 1024 are for root, and for programs with the capability CAP_NET_BIND_SERVICE; choose a higher one, or give it that", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: this machine does not have that address; ip address lists those that it has", err)
	}
	return err
}

// ownerOf says whose a file is, or the first folder above it that there is, and what is to be done about it.
func ownerOf(path string) string {
	const give = "; run it as the owner, or give the file to the user that it runs as"
	info, err := os.Stat(path)
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) != path {
		path = filepath.Dir(path)
		info, err = os.Stat(path)
	}
	if err != nil {
		return path + " cannot be looked at" + give
	}
	owner := machine.Owner(info)
	text := fmt.Sprintf("%s belongs to %s with mode %04o", path, machine.UserName(owner), info.Mode().Perm())
	if owner == os.Geteuid() { // another user would not do better
		return text + "; chmod u+rwX " + path
	}
	return text + give
}
