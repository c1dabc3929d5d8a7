package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	is, err := floorMain()
	if !is {
		err = benchMain(os.Args[1:])
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command's flags.
type options struct {
	only, document, davit string
	runs, window          int
	quick                 bool
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.only, "only", "", "names of measures with commas between them (default all)")
	f.IntVar(&o.runs, "runs", 5, "runs of each contestant, in turns")
	f.BoolVar(&o.quick, "quick", false, "tiny loads, to see whether everything works; writes no document unless --document names one")
	f.StringVar(&o.document, "document", "", "file whose parts are written (default docs/benchmarks.md; - for standard output)")
	f.StringVar(&o.davit, "davit", "", "davit binary to measure (default: built from this source tree)")
	f.IntVar(&o.window, "window", 0, "chunks that a module awaits at most (default what the contract allows)")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "Usage: go run ./bench [flags]\n\nMeasures:")
		for _, m := range measures() {
			fmt.Fprintf(f.Output(), "  %-10s %s\n", m.name, m.title)
		}
		fmt.Fprintln(f.Output(), "\nFlags:")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 || o.runs < 1 {
		return o, errors.New("no arguments are taken, and there is at least one run")
	}
	if o.document == "" {
		if o.document = "docs/benchmarks.md"; o.quick {
			o.document = "-"
		}
	}
	return o, nil
}

func benchMain(args []string) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	var names []string
	if o.only != "" {
		names = strings.Split(o.only, ",")
	}
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	if err := lookForPrograms(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "davit-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &suite{dir: dir, binary: o.davit, runs: o.runs, quick: o.quick, window: o.window, out: os.Stderr}
	if s.binary == "" {
		if s.binary, err = buildDavit(ctx, dir); err != nil {
			return err
		}
	}
	command := "go run ./bench"
	for _, m := range chosen {
		began := time.Now()
		found, err := s.perform(ctx, m)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		took := time.Since(began).Round(time.Second)
		s.log("%s took %s\n", m.name, took)
		note := fmt.Sprintf("`%s --only %s --runs %d`, %s, %s; the machine's load was %s when it began.",
			command, m.name, o.runs, took, machine(), load())
		if err := publish(o.document, m, found, note); err != nil {
			return err
		}
	}
	return nil
}

// load is the machine's load average of the last minute.
func load() string {
	first, _, _ := strings.Cut(string(readOr("/proc/loadavg")), " ")
	return first
}

// lookForPrograms says what is missing, all at once.
func lookForPrograms() error {
	_, a := program("mosquitto", "mosquitto")
	_, b := program("nginx", "nginx-light")
	_, c := exec.LookPath("go")
	return errors.Join(a, b, c)
}

// publish writes a measure's part of the document.
func publish(document string, m measure, found section, note string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n%s\n", m.title, note)
	if found.text != "" {
		fmt.Fprintf(&b, "\n%s\n", found.text)
	}
	for _, t := range found.tables {
		b.WriteString("\n")
		t.markdown(&b)
	}
	if document == "-" {
		_, err := fmt.Println(b.String())
		return err
	}
	doc, err := os.ReadFile(filepath.Clean(document))
	if err != nil {
		return err
	}
	if doc, err = replacePart(doc, m.name, b.String()); err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	return os.WriteFile(document, doc, 0o644)
}
