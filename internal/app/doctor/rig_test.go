package doctor

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/bridge"
	"davit/bridge/portname"
	"davit/bridge/portname/porttest"
	"davit/internal/app"
	"davit/internal/ca"
	"davit/internal/client"
	"davit/internal/machine"
	"davit/orchestrator"
)

// rig is a healthy machine with what the programs are given there.
type rig struct {
	t      *testing.T
	system System
	tree   *porttest.Tree // proc and sys of the machine
	serve  app.ServerOptions
	bridge app.BridgeOptions
	ca     string // folder of an authority
}

// newRig makes a machine whose proc and sys are in a folder, and a data folder of a service that was started once.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, tree: porttest.New(t), ca: filepath.Join(t.TempDir(), "ca")}
	r.system = System{
		Machine: machine.At(r.tree.Root), Ports: portname.At(r.tree.Root), Root: r.tree.Root, Now: time.Now,
		Synchronised: func() (yes, known bool) { return true, true },
		Room:         func(string) (Room, error) { return Room{200 << 30, 400 << 30, 9e6, 10e6}, nil },
		OpenFiles:    func() (uint64, error) { return 1 << 20, nil },
		Bind:         func(*net.TCPAddr) error { return nil },
	}
	r.put("proc/sys/net/core/somaxconn", "4096\n")
	r.put("proc/sys/net/ipv4/tcp_mem", "100000 200000 400000\n")
	must(t, ca.Init(r.ca, ca.New{Name: "test"}, time.Now()))
	cert, key := r.issue(ca.Request{Kind: ca.Server, Name: "127.0.0.1,davit.example.com"}, time.Now())
	dir := filepath.Join(t.TempDir(), "data")
	r.serve = app.ServerOptions{
		Data: dir, MQTT: "127.0.0.1:1883", HTTP: "127.0.0.1:8080", MQTTS: "0.0.0.0:8883", TLSCert: cert, TLSKey: key,
		ClientCA: filepath.Join(r.ca, ca.CertificateFile), ClientCRLs: []string{filepath.Join(r.ca, ca.CRLFile)}, Passwords: app.PasswordsAuto, MaxImage: app.DefaultMaxImage,
	}
	first := r.serve
	first.MQTT, first.HTTP, first.MQTTS, first.TLSCert, first.TLSKey, first.ClientCA, first.ClientCRLs = "127.0.0.1:0", "127.0.0.1:0", "", "", "", "", nil
	first.Log = slog.New(slog.DiscardHandler)
	s, err := app.NewServer(first)
	must(t, err)
	must(t, s.Close())
	return r
}

// again is the same machine anew, for a test that changes it. Nothing is made again that costs time.
func (r *rig) again(t *testing.T) *rig {
	t.Helper()
	fresh := *r
	fresh.t, fresh.tree = t, porttest.New(t)
	fresh.system.Machine, fresh.system.Ports, fresh.system.Root = machine.At(fresh.tree.Root), portname.At(fresh.tree.Root), fresh.tree.Root
	dir := t.TempDir()
	fresh.ca, fresh.serve.Data = filepath.Join(dir, "ca"), filepath.Join(dir, "data")
	copyFolder(t, r.ca, fresh.ca)
	copyFolder(t, r.serve.Data, fresh.serve.Data)
	moved := func(path string) string { return strings.Replace(path, r.ca, fresh.ca, 1) }
	fresh.serve.TLSCert, fresh.serve.TLSKey, fresh.serve.ClientCA = moved(r.serve.TLSCert), moved(r.serve.TLSKey), moved(r.serve.ClientCA)
	fresh.serve.ClientCRLs = []string{moved(r.serve.ClientCRLs[0])}
	fresh.bridge.Ports = slices.Clone(r.bridge.Ports)
	return &fresh
}

// copyFolder copies a folder whose files are their owner's alone.
func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.MkdirAll(to, 0o700))
	entries, err := os.ReadDir(from)
	must(t, err)
	for _, e := range entries {
		a, b := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		if e.IsDir() {
			copyFolder(t, a, b)
			continue
		}
		content, err := os.ReadFile(a)
		must(t, err)
		must(t, os.WriteFile(b, content, 0o600))
	}
}

// issue issues a certificate at a time.
func (r *rig) issue(q ca.Request, at time.Time) (cert, key string) {
	r.t.Helper()
	out, err := ca.Issue(r.ca, q, at)
	must(r.t, err)
	return out.Certificate, out.Key
}

// put writes a file of the machine.
func (r *rig) put(name, content string) {
	r.t.Helper()
	path := filepath.Join(r.tree.Root, name)
	must(r.t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(r.t, os.WriteFile(path, []byte(content), 0o600))
}

// listens puts a process on the machine that listens at 0.0.0.0:port, port in hexadecimal digits.
func (r *rig) listens(pid, comm, cmdline, port string) {
	r.t.Helper()
	r.put("proc/"+pid+"/comm", comm+"\n")
	r.put("proc/"+pid+"/cmdline", cmdline)
	r.put("proc/net/tcp", "   0: 00000000:"+port+" 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n")
	must(r.t, os.MkdirAll(filepath.Join(r.tree.Root, "proc", pid, "fd"), 0o700))
	must(r.t, os.Symlink("socket:[4711]", filepath.Join(r.tree.Root, "proc", pid, "fd", "3")))
}

// withBridge gives the rig a bridge: a service that knows it, a password, and a character device that
// stands for a serial port.
func (r *rig) withBridge() {
	t := r.t
	t.Helper()
	o := app.ServerOptions{Data: t.TempDir(), MQTT: "127.0.0.1:0", HTTP: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}
	s, err := app.NewServer(o)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-ended)
	})
	select {
	case <-s.Ready():
	case err := <-ended:
		t.Fatal(err)
	}
	token, err := os.ReadFile(app.TokenFile(o.Data))
	must(t, err)
	c, err := client.New("http://"+s.Addresses().HTTP, strings.TrimSpace(string(token)))
	must(t, err)
	defer c.Close()
	_, err = c.CreateImageType(ctx, orchestrator.NewImageType{ID: "application"})
	must(t, err)
	_, err = c.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "board", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "application"}}})
	must(t, err)
	_, err = c.CreateDevice(ctx, orchestrator.NewDevice{ID: "pump", Type: "board"})
	must(t, err)
	b, err := c.CreateBridge(ctx, "rack", []string{"pump"})
	must(t, err)
	dir := t.TempDir()
	file := filepath.Join(dir, "rack.password")
	must(t, os.WriteFile(file, []byte(b.Password+"\n"), 0o600))
	r.bridge = app.BridgeOptions{
		Broker: "mqtt://" + s.Addresses().MQTT, Username: "rack", PasswordFile: file, Data: filepath.Join(dir, "data"),
		Ports: []bridge.PortConfig{{Device: "pump", Path: os.DevNull}},
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// unpack takes one file of an archive into the service's data folder.
func (r *rig) unpack(archive, name string) {
	r.t.Helper()
	f, err := os.Open(archive)
	must(r.t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(r.t, err)
	for files := tar.NewReader(z); ; {
		h, err := files.Next()
		must(r.t, err)
		if filepath.Base(h.Name) != name {
			continue
		}
		content, err := io.ReadAll(files)
		must(r.t, err)
		must(r.t, os.WriteFile(filepath.Join(r.serve.Data, name), content, 0o600))
		return
	}
}
