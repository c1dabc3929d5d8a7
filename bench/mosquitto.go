package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// mosquitto is the broker to compare with.
type mosquitto struct {
	*process
	addr string
}

// program finds a program that is not ours.
func program(name, debianPackage string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
			if p := filepath.Join(dir, name); isProgram(p) {
				return p, nil
			}
		}
		return "", fmt.Errorf("%s is not installed; on Debian: apt-get install %s", name, debianPackage)
	}
	return path, nil
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// startMosquitto runs mosquitto with what costs it least: no persistence, no $SYS, no
// log, anonymous clients, no limit on what waits.
func startMosquitto(dir string) (*mosquitto, error) {
	path, err := program("mosquitto", "mosquitto")
	if err != nil {
		return nil, err
	}
	addr, port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "mosquitto.conf")
	text := fmt.Sprintf(`listener %d 127.0.0.1
allow_anonymous true
persistence false
sys_interval 0
log_type error
max_queued_messages 0
max_connections -1
set_tcp_nodelay true
user root
`, port)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	p, err := startProcess("mosquitto", exec.Command(path, "-c", conf), nil)
	if err != nil {
		return nil, err
	}
	return &mosquitto{p, addr}, p.listening(addr)
}

// freePort is a port of loopback that nobody listens on.
func freePort() (addr string, port int, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", 0, err
	}
	return l.Addr().String(), l.Addr().(*net.TCPAddr).Port, l.Close()
}

// listening waits until the process takes connections.
func (p *process) listening(addr string) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.done:
			return p.ended()
		default:
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s does not listen on %s after %s", p.name, addr, patience), err)
		}
	}
}

// connect brings the first n devices' subscribers up.
func (m *mosquitto) connect(subs []*subscriber, n int, image []byte) ([]*subscriber, error) {
	had := len(subs)
	subs = append(subs, make([]*subscriber, max(0, n-had))...)
	err := each(n-had, func(i int) (err error) {
		subs[had+i], err = dialSubscriber(m.addr, fmt.Sprintf("m-%05d", had+i), image)
		return err
	})
	return subs, err
}
