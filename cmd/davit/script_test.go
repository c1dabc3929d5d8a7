package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"davit/internal/logtest"
	"davit/internal/secrettest"
	"davit/internal/sim"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"davit": mainWatched})
}

// TestScripts runs the files in testdata/script: they are the specification of
// the command line in a form that people can read. Beside testscript's own
// commands there are:
//
//	start NAME command...     run a program; its first line of output is JSON, whose fields become NAME_field
//	service [FLAG...]         start the service as "serve" on data folder data; DAVIT_SERVER and DAVIT_TOKEN lead to it
//	demoimage FILE VERSION    write an image for the reference board that names its version
//	stop NAME                 interrupt it; it has to end with exit code 0 within ten seconds
//	signal NAME TERM          send it a signal (HUP, INT, TERM)
//	ends NAME                 wait for its end with exit code 0, ten seconds at most
//	crash NAME                kill -9
//	await NAME TEXT           wait until its output has the text, ten seconds at most
//	awaitlog NAME TEXT        the same of its standard error
//	tally NAME TEXT N         its output has the text in N lines
//	exits CODE command...     run a program to its end and check its exit code; output is checked as after exec
//	[!] json FIELD PATTERN    the last output, or its last line, is a JSON object whose FIELD matches
//	get VAR FIELD             the same field into a variable
//	trim VAR FILE             a file's content, or stdout, without the newline into a variable
//	writefile FILE TEXT       a file with one line
//	httpget URL               what is served there becomes stdout
//	poll FIELD PATTERN command...  run the command until its output has a FIELD that matches, ten seconds at most
//
// A FIELD is a path such as executions.0.state.
//
// At the end of each script everything that davit has printed, and the arguments that its processes had, is
// searched for the secrets that the script has come by, and files that have secrets in them have to be their
// owner's alone.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("DAVIT_SERVER", "")
			e.Setenv("DAVIT_TOKEN", "")
			// The race detector lets every process sleep a second at its end, unless it is told not to.
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			e.Values[processesKey{}] = &processes{byName: map[string]*process{}}
			printed, err := os.MkdirTemp("", "davit-printed-")
			e.Setenv(printedTo, printed)
			brought, failed := filesIn(e.WorkDir)
			e.Defer(func() {
				searchRuns(secrettest.New(t), e.WorkDir, printed)
				searchModes(t, e.WorkDir, brought)
				if err := os.RemoveAll(printed); err != nil {
					t.Error(err)
				}
			})
			return errors.Join(err, failed)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": startCmd, "service": serviceCmd, "demoimage": demoimageCmd, "stop": stopCmd, "signal": signalCmd, "ends": endsCmd, "crash": crashCmd,
			"await":    awaitCmd(func(p *process) *logtest.Buffer { return p.out }),
			"awaitlog": awaitCmd(func(p *process) *logtest.Buffer { return p.log }),
			"tally":    tallyCmd, "exits": exitsCmd, "json": jsonCmd, "get": getCmd, "poll": pollCmd,
			"trim": trimCmd, "writefile": writefileCmd, "httpget": httpgetCmd,
		},
	})
}

// patience is how long a program may take to become ready or to end.
const patience = 10 * time.Second

type processesKey struct{}

type processes struct{ byName map[string]*process }

// process is a program that a script has started.
type process struct {
	cmd *exec.Cmd
	out *logtest.Buffer
	log *logtest.Buffer
	end chan error
}

func running(ts *testscript.TestScript) map[string]*process {
	return ts.Value(processesKey{}).(*processes).byName
}

func find(ts *testscript.TestScript, args []string) *process {
	if len(args) != 1 {
		ts.Fatalf("usage: stop|ends|crash NAME")
	}
	p := running(ts)[args[0]]
	if p == nil {
		ts.Fatalf("nothing called %s is running", args[0])
	}
	delete(running(ts), args[0])
	return p
}

func startCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME command...")
	}
	name := args[0]
	p := &process{cmd: command(ts, args[1:]), out: &logtest.Buffer{}, log: &logtest.Buffer{}, end: make(chan error, 1)}
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	running(ts)[name] = p
	ts.Defer(func() {
		if running(ts)[name] == p {
			_ = p.cmd.Process.Kill()
			<-p.end
			ts.Logf("[%s]\n%s", name, p.log)
		}
	})
	first := make(chan string, 1)
	go func() {
		lines := bufio.NewReader(out)
		line, _ := lines.ReadString('\n')
		_, _ = p.out.Write([]byte(line))
		first <- line
		// The program must not block on its output; where that ends is told by Wait.
		_, _ = io.Copy(p.out, lines)
		p.end <- p.cmd.Wait()
	}()
	select {
	case line := <-first:
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			ts.Fatalf("first line of %s is not a JSON object: %q\n%s", name, line, p.log)
		}
		for k, v := range fields {
			ts.Setenv(name+"_"+k, fmt.Sprint(v))
		}
	case <-time.After(patience):
		ts.Fatalf("%s says nothing\n%s", name, p.log)
	}
}

func serviceCmd(ts *testscript.TestScript, neg bool, args []string) {
	startCmd(ts, neg, append([]string{"serve", "davit", "serve", "--data", "data", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...))
	ts.Setenv("DAVIT_SERVER", "http://"+ts.Getenv("serve_http"))
	ts.Setenv("DAVIT_TOKEN", strings.TrimSpace(ts.ReadFile("data/admin.token")))
}

func demoimageCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: demoimage FILE VERSION")
	}
	const size, seed = 2048, 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), sim.BuildDemoImage(args[1], size, seed), 0o600))
}

func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("WORK"), "TMPDIR="+ts.Getenv("WORK"), "GORACE="+ts.Getenv("GORACE"),
		printedTo+"="+ts.Getenv(printedTo), "DAVIT_SERVER="+ts.Getenv("DAVIT_SERVER"), "DAVIT_TOKEN="+ts.Getenv("DAVIT_TOKEN"))
	return cmd
}

func stopCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 1 && running(ts)[args[0]] != nil {
		ts.Check(running(ts)[args[0]].cmd.Process.Signal(os.Interrupt))
	}
	endsCmd(ts, neg, args)
}

func signalCmd(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"HUP": syscall.SIGHUP, "INT": os.Interrupt, "TERM": syscall.SIGTERM}
	if neg || len(args) != 2 || running(ts)[args[0]] == nil || signals[args[1]] == nil {
		ts.Fatalf("usage: signal NAME HUP|INT|TERM, with the name of a running program")
	}
	ts.Check(running(ts)[args[0]].cmd.Process.Signal(signals[args[1]]))
}

func endsCmd(ts *testscript.TestScript, neg bool, args []string) {
	p := find(ts, args)
	select {
	case err := <-p.end:
		if err != nil {
			ts.Fatalf("%s: %v\n%s", args[0], err, p.log)
		}
	case <-time.After(patience):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT)
		<-p.end
		ts.Fatalf("%s does not end\n%s", args[0], p.log)
	}
}

func crashCmd(ts *testscript.TestScript, neg bool, args []string) {
	p := find(ts, args)
	ts.Check(p.cmd.Process.Kill())
	<-p.end
}

// awaitCmd waits for a text in what of a program gives.
func awaitCmd(of func(*process) *logtest.Buffer) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 2 || running(ts)[args[0]] == nil {
			ts.Fatalf("usage: await|awaitlog NAME TEXT, with the name of a running program")
		}
		p := running(ts)[args[0]]
		for deadline := time.Now().Add(patience); !strings.Contains(of(p).String(), args[1]); {
			if time.Now().After(deadline) {
				ts.Fatalf("%s does not say %q\n%s%s", args[0], args[1], p.out, p.log)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func tallyCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 || running(ts)[args[0]] == nil {
		ts.Fatalf("usage: tally NAME TEXT N, with the name of a running program")
	}
	n := 0
	for line := range strings.Lines(running(ts)[args[0]].out.String()) {
		if strings.Contains(line, args[1]) {
			n++
		}
	}
	if want, err := strconv.Atoi(args[2]); err != nil || n != want {
		ts.Fatalf("%s has %q in %d lines, want %s\n%s", args[0], args[1], n, args[2], running(ts)[args[0]].out)
	}
}

func exitsCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE command...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d\n%s%s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// field finds a path such as executions.0.state in the last output.
func field(text, path string) (string, error) {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &v); err != nil {
			return "", fmt.Errorf("not JSON: %q", text)
		}
	}
	for _, key := range strings.Split(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			next, ok := at[key]
			if !ok {
				return "", fmt.Errorf("no field %s in %s", key, text)
			}
			v = next
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(at) {
				return "", fmt.Errorf("no element %s in %s", key, text)
			}
			v = at[i]
		default:
			return "", fmt.Errorf("%s is not in an object: %s", key, text)
		}
	}
	if n, ok := v.(float64); ok {
		return strconv.FormatFloat(n, 'f', -1, 64), nil
	}
	if s, ok := v.(string); ok {
		return s, nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

func matches(ts *testscript.TestScript, pattern, value string) bool {
	re, err := regexp.Compile("^(?:" + pattern + ")$")
	ts.Check(err)
	return re.MatchString(value)
}

func jsonCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] json FIELD PATTERN")
	}
	got, err := field(ts.ReadFile("stdout"), args[0])
	if neg {
		if err == nil && matches(ts, args[1], got) {
			ts.Fatalf("%s is %q", args[0], got)
		}
		return
	}
	ts.Check(err)
	if !matches(ts, args[1], got) {
		ts.Fatalf("%s is %q, want %q", args[0], got, args[1])
	}
}

func getCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: get VAR FIELD")
	}
	got, err := field(ts.ReadFile("stdout"), args[1])
	ts.Check(err)
	ts.Setenv(args[0], got)
}

func pollCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: poll FIELD PATTERN command...")
	}
	deadline := time.Now().Add(patience)
	for {
		err := ts.Exec(args[2], args[3:]...)
		out := ts.ReadFile("stdout")
		if err == nil {
			if got, err := field(out, args[0]); err == nil && matches(ts, args[1], got) {
				return
			}
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not become %s: %v\n%s%s", args[0], args[1], err, out, ts.ReadFile("stderr"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func trimCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: trim VAR FILE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

func writefileCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: writefile FILE TEXT")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(args[1]+"\n"), 0o600))
}

func httpgetCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: httpget URL")
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get(args[0])
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("%s: %s\n%s", args[0], resp.Status, body)
	}
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
}
