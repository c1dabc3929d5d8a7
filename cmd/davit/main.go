// Command davit is the whole product in one binary: the service (serve), the
// bridge for serial ports (bridge), a simulated host MCU (mcu), a
// demonstration of all of them together (demo), and the operator's command
// line for the service's HTTP API.
//
// The package owns flags, signals, printing and exit codes. What the commands
// do lives in internal/app, internal/demo and the parts; no part imports this
// package. Only main exits the process; one goroutine runs the command.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
}

// streams are where a command reads passwords and where it prints: results to
// out, everything else to err.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// run executes one command line and returns the exit code: 0 done, 1 failed,
// 2 not understood. The first interrupt or SIGTERM ends the command's context;
// the second kills the process, should the orderly end hang.
func run(args []string, s streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	p := &program{streams: s, environ: os.Environ()}
	root := p.root()
	root.SetArgs(args)
	return p.exitCode(root.ExecuteContext(ctx))
}
