package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"davit/bridge"
	"davit/internal/logevent"
)

const (
	// statusName is the socket in a bridge's data folder on which it tells its
	// status.
	statusName = "bridge.sock"
	// longestSocket is how many bytes the path of a Unix socket may have: Linux has
	// room for 108, the last of which is 0. Elsewhere there is less, and what is
	// longer is refused when the socket is made.
	longestSocket = 107
	// longestStatus bounds what is read of a status.
	longestStatus = 4 << 20
	// statusPatience is how long a bridge has to answer.
	statusPatience = 5 * time.Second
)

// ErrNoBridge is wrapped by the error of BridgeStatus when no bridge runs.
var ErrNoBridge = errors.New("no bridge runs")

// openStatus makes the socket. A bridge whose folder takes none, as on some file
// systems that come over the network, updates all the same.
func (b *Bridge) openStatus(data string) {
	ln, err := listenStatus(data)
	var made fs.FileInfo
	if err == nil {
		if made, err = os.Lstat(filepath.Join(data, statusName)); err != nil {
			_ = ln.Close() // the first error says more
		}
	}
	if err != nil {
		b.log.Warn("davit bridge status will not work: the socket cannot be made", "event", logevent.StatusSocketFailed, "path", filepath.Join(data, statusName), "error", err)
		return
	}
	b.status = ln
	b.cleanup.add("status socket", func() error { return errors.Join(closeOnce(ln)(), removeStatus(data, made)) })
}

// removeStatus removes the socket that was made, and not the one of a bridge that
// has taken over the folder since.
func removeStatus(data string, made fs.FileInfo) error {
	path := filepath.Join(data, statusName)
	now, err := os.Lstat(path)
	if err != nil || !os.SameFile(now, made) || !now.ModTime().Equal(made.ModTime()) { // a new file may get an old one's number
		return nil
	}
	return os.Remove(path)
}

// listenStatus listens on the socket in a data folder that this process holds,
// so that one which is there is a killed bridge's. Only its owner may use it.
func listenStatus(data string) (net.Listener, error) {
	if err := os.Remove(filepath.Join(data, statusName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	path, done, err := socketPath(data)
	if err != nil {
		return nil, err
	}
	defer done()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// The file gets the mode of the socket: at no moment may others use it.
		var failed error
		if err := c.Control(func(fd uintptr) { failed = syscall.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return failed
	}}
	ln, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // path may be short for this moment only
	return ln, nil
}

// socketPath is a path of the socket that fits an address: for a folder with a
// long one, through a descriptor of the folder, which is open until done is called.
func socketPath(data string) (path string, done func(), err error) {
	path = filepath.Join(data, statusName)
	if len(path) <= longestSocket {
		return path, func() {}, nil
	}
	dir, err := os.Open(data)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), statusName), func() { _ = dir.Close() }, nil
}

func (b *Bridge) serveStatus(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(b.bridge.Status(r.Context())) // an error is the reader's who has gone
}

// BridgeStatus asks the bridge that runs on a data folder what it is doing. The
// error wraps ErrNoBridge if none does.
func BridgeStatus(ctx context.Context, data string) (bridge.Status, error) {
	var s bridge.Status
	answer, err := askBridge(ctx, data, http.MethodGet, "/status", "")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal([]byte(answer), &s); err != nil {
		return s, fmt.Errorf("ask the bridge on %s: %w", data, err)
	}
	return s, nil
}

// askBridge makes a request on the socket of a bridge.
func askBridge(ctx context.Context, data, method, path, body string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		path, done, err := socketPath(data)
		if err != nil {
			return nil, err
		}
		defer done()
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://bridge"+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return "", fmt.Errorf("%w on %s; start one with davit bridge --data %s", ErrNoBridge, data, data)
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("ask the bridge on %s: only its own user and root may: %w", data, err)
	case err != nil:
		return "", fmt.Errorf("ask the bridge on %s: %w", data, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, longestStatus))
	if err != nil {
		return "", fmt.Errorf("ask the bridge on %s: %w", data, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask the bridge on %s: it answers %s: %.200q", data, resp.Status, strings.TrimSpace(string(answer)))
	}
	return string(answer), nil
}
