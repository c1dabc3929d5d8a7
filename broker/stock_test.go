package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/storage/bolt"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/goleak"
)

// This file runs mochi alone, used as its documentation shows, for the tests
// that show each of its defects there and its absence here. A run on mochi
// alone may hang, leak or crash, so it has a process of its own: this test
// binary, started again with stockEnv set.

const (
	stockEnv     = "DAVIT_TEST_STOCK_MOCHI"
	stockTimeout = 60 * time.Second
	// defectMark begins the line on which the other process tells of a defect.
	defectMark = "DEFECT: "
)

func TestMain(m *testing.M) {
	if name := os.Getenv(stockEnv); name != "" {
		os.Exit(stockMain(name))
	}
	goleak.VerifyTestMain(m)
}

// rig is a broker under test: ours, or mochi alone.
type rig struct {
	testing.TB
	addr string
	// device returns the login of a device.
	device func(id string) login
	svc    login
	// settled waits until the broker's list of clients has none of this id.
	settled func(user, clientID string)
	// restart ends the broker and starts it anew on what it has stored.
	restart func()
}

// options change a rig.
type rigOptions struct {
	davit  func(*Config)
	listen func() (net.Listener, error) // nil is net.Listen
	stored bool                         // mochi alone gets its bolt hook
	filter string                       // mochi alone allows this by its ledger's rule
}

// defect is one scenario: it returns what is wrong, or nil.
type defect struct {
	name string
	run  func(*rig) error
	opts rigOptions
	// racy defects do not show on mochi alone in every run.
	racy bool
}

// failed is what softTB panics with.
type failed struct{ text string }

// softTB turns the helpers' Fatal into a result of the scenario.
type softTB struct {
	testing.TB
	dir      string
	mu       sync.Mutex
	cleanups []func()
}

func (s *softTB) Helper()                         {}
func (s *softTB) Fatal(args ...any)               { panic(failed{fmt.Sprint(args...)}) }
func (s *softTB) Fatalf(f string, args ...any)    { panic(failed{fmt.Sprintf(f, args...)}) }
func (s *softTB) Errorf(f string, args ...any)    { s.Fatalf(f, args...) }
func (s *softTB) Logf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (s *softTB) TempDir() string                 { return s.dir }

func (s *softTB) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

// softly runs a scenario and returns what the helpers failed with as an error.
func softly(r *rig, run func(*rig) error) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case failed:
			err = errors.New(v.text)
		default:
			panic(v)
		}
	}()
	return run(r)
}

// test runs the scenario on both.
func (d defect) test(t *testing.T) {
	t.Run("davit", func(t *testing.T) {
		t.Parallel()
		soft := &softTB{dir: t.TempDir()}
		defer func() {
			for _, f := range soft.cleanups {
				f()
			}
		}()
		if err := softly(d.davitRig(t, soft), d.run); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("mochi alone", func(t *testing.T) {
		t.Parallel()
		found, err := runStock(t, d.name)
		switch {
		case err != nil:
			t.Fatal(err)
		case found != "":
			t.Log("as expected:", found)
		case d.racy:
			t.Log("the race did not show in this run")
		default:
			t.Error("mochi alone does not show the defect: this test proves nothing, or mochi has been mended and our way round may go")
		}
	})
}

func (d defect) davitRig(t *testing.T, tb testing.TB) *rig {
	creds := credentials(t)
	cfg := func(c *Config) {
		c.Credentials = creds
		if d.opts.davit != nil {
			d.opts.davit(c)
		}
		if l := d.opts.listen; l != nil {
			c.listen = func(string, string) (net.Listener, error) { return l() }
		}
	}
	b := start(t, cfg)
	r := &rig{TB: tb, addr: b.addr(), svc: service()}
	r.device = func(id string) login { return addDevice(tb, b, id) }
	r.settled = func(user, id string) {
		eventually(tb, "the session is gone", func() bool {
			_, ok := b.server.Clients.Get(user + "\x00" + id)
			return !ok
		})
	}
	r.restart = func() {
		b.Stop()
		b = start(t, cfg)
		r.addr = b.addr()
	}
	return r
}

// runStock returns the defect that the scenario of that name found on mochi.
func runStock(t *testing.T, name string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), stockTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), stockEnv+"="+name, "TMPDIR="+t.TempDir()) // one that panics leaves its folder
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if found, ok := strings.CutPrefix(line, defectMark); ok {
			return strings.TrimSpace(found), nil
		}
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "WARNING: DATA RACE") {
			return "the whole process ends: " + strings.TrimSpace(line), nil
		}
	}
	if err != nil {
		return "", fmt.Errorf("scenario %s on mochi alone: %w\n%s", name, err, out)
	}
	return "", nil
}

// stockMain is the other process.
func stockMain(name string) int {
	for _, d := range defects() {
		if d.name != name {
			continue
		}
		dir, err := os.MkdirTemp("", "davit-stock-")
		if err != nil {
			fmt.Println(err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := softly(d.stockRig(&softTB{dir: dir}), d.run); err != nil {
			fmt.Println(defectMark + err.Error())
		}
		return 0 // whatever runs or hangs ends with the process
	}
	fmt.Println("no scenario of that name")
	return 1
}

// allowHook admits everybody, like mochi's auth.AllowHook, which cannot be
// imported without a YAML library. With a filter it allows what the rules of
// mochi's auth.Ledger would: those compare level by level and forget to look
// whether the topic has more of them (hooks/auth/ledger.go, MatchTopic).
type allowHook struct {
	mqtt.HookBase
	filter string
}

func (*allowHook) ID() string { return "allow" }
func (*allowHook) Provides(b byte) bool {
	return b == mqtt.OnConnectAuthenticate || b == mqtt.OnACLCheck
}
func (*allowHook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

func (h *allowHook) OnACLCheck(_ *mqtt.Client, topic string, _ bool) bool {
	if h.filter == "" {
		return true
	}
	levels := strings.Split(topic, "/")
	for i, f := range strings.Split(h.filter, "/") {
		if i >= len(levels) || f != levels[i] {
			return false
		}
	}
	return true
}

func (d defect) stockRig(tb testing.TB) *rig {
	r := &rig{TB: tb, svc: service()}
	r.device = func(id string) login { return login{id, "any"} }
	var server *mqtt.Server
	open := func() {
		server = mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})
		check(tb, server.AddHook(&allowHook{filter: d.opts.filter}, nil))
		if d.opts.stored {
			check(tb, server.AddHook(new(bolt.Hook), &bolt.Options{Path: filepath.Join(tb.TempDir(), "mochi.db")}))
		}
		var l listeners.Listener = listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0"})
		if d.opts.listen != nil {
			ln, err := d.opts.listen()
			check(tb, err)
			l = listeners.NewNet("t", ln)
		}
		check(tb, server.AddListener(l))
		check(tb, server.Serve())
		r.addr = l.Address()
	}
	open()
	r.restart = func() {
		check(tb, server.Close())
		open()
	}
	r.settled = func(_, id string) {
		eventually(tb, "the session is gone", func() bool {
			_, ok := server.Clients.Get(id)
			return !ok
		})
	}
	return r
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
