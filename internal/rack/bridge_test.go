package rack

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"davit/bridge"
	"davit/internal/app"
)

// bridgeVariable is the environment variable that makes the test's program a bridge: its settings, as JSON.
const bridgeVariable = "DAVIT_RACK_BRIDGE"

// settings are those of the bridge.
type settings struct {
	Broker, Username, PasswordFile, Data string
	Ports                                []bridge.PortConfig
}

func TestMain(m *testing.M) {
	if text := os.Getenv(bridgeVariable); text != "" {
		if err := beBridge(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// beBridge runs a bridge as davit bridge does, until SIGTERM.
func beBridge(text string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	log, err := app.NewLogger(os.Stderr, app.LogOptions{Level: "warn"})
	if err != nil {
		return err
	}
	b, err := app.NewBridge(app.BridgeOptions{
		Broker: s.Broker, Username: s.Username, PasswordFile: s.PasswordFile, Data: s.Data, Ports: s.Ports, Log: log,
	})
	if err != nil {
		return err
	}
	go func() {
		<-b.Ready()
		fmt.Println("ready")
	}()
	return b.Run(ctx)
}

// process is the bridge in a process of its own, so that what it costs can be told from what the benches cost.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
}

// startBridge starts it and waits until it has reached the broker.
func startBridge(t *testing.T, s settings) *process {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), bridgeVariable+"="+string(text))
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the bridge says %q, %v", line, err)
	}
	return p
}

// stop ends it in order, once.
func (p *process) stop() {
	if p.cmd.ProcessState != nil {
		return
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Error(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("the bridge: %v", err)
	}
}

// cpu is the CPU time that it has used up to now.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	// proc(5): utime and stime are the fields 14 and 15; the second one is in brackets and may hold blanks.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			p.t.Fatal(err)
		}
		ticks += n
	}
	const perSecond = 100 // USER_HZ, which is 100 on every Linux that Go runs on
	return time.Duration(ticks) * time.Second / perSecond
}

// peak is the most memory that it has had resident, in bytes.
func (p *process) peak() int {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			if err != nil {
				p.t.Fatal(err)
			}
			return kib << 10
		}
	}
	p.t.Fatal("no VmHWM")
	return 0
}
