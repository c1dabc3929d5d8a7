package arch

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"davit/internal/managertest"
	"davit/internal/sim"
)

// TestUnitsAllowWhatTheProgramsDo runs a service and a bridge as the units start them, with other addresses and
// folders, through an update of a simulated host MCU, and holds every system call and kind of socket that they use
// against what the units allow. Both tell their manager how they are.
func TestUnitsAllowWhatTheProgramsDo(t *testing.T) {
	if os.Getenv("DAVIT_TEST_FULL") != "1" {
		t.Skip("takes three seconds; runs under DAVIT_TEST_FULL=1")
	}
	if out, err := exec.Command(program(t, "strace", "strace"), "-qq", "true").CombinedOutput(); err != nil {
		t.Skipf("processes cannot be traced here: %v\n%s", err, out)
	}
	analyze := program(t, "systemd-analyze", "systemd")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := &sandboxRig{t: t, ctx: ctx, dir: t.TempDir()}
	data := filepath.Join(r.dir, "data")
	serve := r.start("davit.service", "--data", data, "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0")
	serve.manager.Hears("READY=1\nSTATUS=Serving " + data)
	r.env = []string{"DAVIT_SERVER=http://" + serve.ready["http"].(string), "DAVIT_TOKEN=" + strings.TrimSpace(read(t, filepath.Join(data, "admin.token")))}
	mcu := r.run("", false, davit(t), "mcu", "--json", "--baud", "2000000", "--version", "1.0.0")

	r.command("image-type", "create", "application")
	r.command("device-type", "create", "board", "--image-type", "application", "--dialect", "ayla")
	r.command("device", "add", "pump-1", "--type", "board")
	password := filepath.Join(r.dir, "password")
	r.command("bridge", "add", "rack-1", "--device", "pump-1", "--out", password)
	bridge := r.start("davit-bridge.service", "--broker", "mqtt://"+serve.ready["mqtt"].(string), "--data", filepath.Join(r.dir, "bridge"),
		"--password-file", password, "--metrics", "127.0.0.1:0", "--port", "pump-1="+mcu.ready["path"].(string)+",baud=2000000,parity=odd,rtscts=off")
	bridge.manager.Hears("READY=1\nSTATUS=1 ports, broker mqtt://" + serve.ready["mqtt"].(string))
	r.update()
	if err := bridge.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	bridge.manager.Hears("RELOADING=1")
	bridge.manager.Hears("READY=1\n")

	for _, p := range []*supervised{bridge, serve} {
		p.stop()
		p.manager.Hears("STOPPING=1\n")
		p.checkTrace(analyze)
	}
	mcu.stop()
}

// sandboxRig starts programs under a service manager that only listens.
type sandboxRig struct {
	t   *testing.T
	ctx context.Context
	dir string
	env []string
}

// supervised is a program that a rig has started.
type supervised struct {
	r       *sandboxRig
	name    string
	cmd     *exec.Cmd
	ready   map[string]any // its first line
	manager *managertest.Manager
	trace   string // what strace has written
}

// start runs what a unit runs, with the configuration that is shipped; flags win over it.
func (r *sandboxRig) start(name string, flags ...string) *supervised {
	r.t.Helper()
	command := strings.Fields(readUnit(r.t, name).one(r.t, "ExecStart"))
	command[0] = davit(r.t)
	command[len(command)-1] = root + "/deploy/systemd/" + filepath.Base(command[len(command)-1])
	return r.run(name, true, append(command, flags...)...)
}

func (r *sandboxRig) run(name string, traced bool, command ...string) *supervised {
	r.t.Helper()
	p := &supervised{r: r, name: name, trace: filepath.Join(r.dir, name+".strace")}
	env := append(os.Environ(), "DAVIT_TOKEN=", "DAVIT_SERVER=")
	if traced {
		// -D: the program, and not strace, is the child that gets signals. Without the calls of its scheduler it is not slow.
		command = append([]string{"strace", "-D", "-f", "-qq", "--seccomp-bpf", "-e", "trace=!futex,nanosleep,epoll_pwait,sched_yield,timerfd_settime", "-e", "signal=none", "-o", p.trace}, command...)
		p.manager = managertest.Listen(r.t, filepath.Join(r.dir, name+".notify"))
		env = append(env, p.manager.Environ())
	}
	p.cmd = exec.CommandContext(r.ctx, command[0], command[1:]...)
	p.cmd.Env = env
	log := &strings.Builder{}
	p.cmd.Stderr = log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		if r.t.Failed() {
			r.t.Logf("%v:\n%s", command, log)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		r.t.Fatalf("%v has no first line: %v", command, err)
	}
	if err := json.Unmarshal(line, &p.ready); err != nil {
		r.t.Fatalf("%v begins with %q: %v", command, line, err)
	}
	return p
}

func (p *supervised) stop() {
	p.r.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.r.t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.r.t.Errorf("%s: %v", p.name, err)
	}
}

// command runs a command of the CLI on the service and returns what it prints.
func (r *sandboxRig) command(args ...string) []byte {
	r.t.Helper()
	cmd := exec.CommandContext(r.ctx, davit(r.t), append(args, "--json")...)
	cmd.Env = append(os.Environ(), r.env...)
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("davit %v: %v\n%s", args, err, out)
	}
	return out
}

// update brings an image to the simulated host MCU.
func (r *sandboxRig) update() {
	r.t.Helper()
	file := filepath.Join(r.dir, "firmware.bin")
	if err := os.WriteFile(file, sim.BuildDemoImage("1.1.0", 8<<10, 1), 0o600); err != nil {
		r.t.Fatal(err)
	}
	var image struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(r.command("image", "push", file, "--image-type", "application", "--device-type", "board", "--version", "1.1.0"), &image); err != nil {
		r.t.Fatal(err)
	}
	r.command("job", "create", "--name", "first", "--image", image.ID, "--device", "pump-1", "--start")
	if out := r.command("job", "watch", "first"); !strings.Contains(string(out), `"succeeded"`) {
		r.t.Fatalf("the job ends as\n%s", out)
	}
}

var (
	tracedCall   = regexp.MustCompile(`(?m)^\d+ +([a-z0-9_]+)\(`)
	tracedSocket = regexp.MustCompile(`\bsocket(?:pair)?\((AF_[A-Z0-9]+)`)
)

// checkTrace holds what the program has called against its unit. Those of its scheduler are of the group @default.
func (p *supervised) checkTrace(analyze string) {
	p.r.t.Helper()
	u := readUnit(p.r.t, p.name)
	allowed := map[string]bool{}
	for _, filter := range u["SystemCallFilter"] {
		groups, denied := strings.CutPrefix(filter, "~")
		for group := range strings.FieldsSeq(groups) {
			for _, call := range callsOf(p.r.t, analyze, group) {
				allowed[call] = !denied
			}
		}
	}
	trace := read(p.r.t, p.trace)
	calls := map[string]bool{}
	for _, m := range tracedCall.FindAllStringSubmatch(trace, -1) {
		if calls[m[1]] = true; !allowed[m[1]] {
			p.r.t.Errorf("%s does not allow the system call %s", p.name, m[1])
		}
	}
	families := strings.Fields(u.one(p.r.t, "RestrictAddressFamilies"))
	for _, m := range tracedSocket.FindAllStringSubmatch(trace, -1) {
		if !slices.Contains(families, m[1]) {
			p.r.t.Errorf("%s does not allow sockets of %s", p.name, m[1])
		}
	}
	if !calls["fsync"] || !calls["connect"] || len(calls) < 30 {
		p.r.t.Errorf("the trace of %s misses calls that it must have: %d of them", p.name, len(calls))
	}
}

// callsOf lists the system calls of a group, and of the groups in it.
func callsOf(t *testing.T, analyze, group string) []string {
	t.Helper()
	out, err := exec.Command(analyze, "syscall-filter", "--no-pager", group).Output()
	if err != nil {
		t.Fatal(fmt.Errorf("systemd-analyze syscall-filter %s: %w", group, err))
	}
	var calls []string
	for line := range strings.Lines(string(out)) {
		switch name := strings.TrimSpace(line); {
		case strings.HasPrefix(name, "#") || name == group || name == "":
		case strings.HasPrefix(name, "@"):
			calls = append(calls, callsOf(t, analyze, name)...)
		default:
			calls = append(calls, name)
		}
	}
	return calls
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
