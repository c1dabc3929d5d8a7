package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

var updateRollouts = flag.Bool("update-rollouts", false, "write the examples of docs/rollouts.md anew")

const rolloutsFile = "../../docs/rollouts.md"

// example is a command of the document with what it prints.
type example struct {
	command string // with $ in front, as it stands there
	output  string
	args    []string
	tail    int // only so many lines of the output at its end; 0 for all
}

const consoleFence = "```console\n"

// examplesOf finds the blocks of a document that show a command.
func examplesOf(t *testing.T, text string) []example {
	t.Helper()
	var all []example
	for _, part := range strings.Split(text, consoleFence)[1:] {
		block, _, ok := strings.Cut(part, "```\n")
		if !ok {
			t.Fatalf("a block does not end: %.80s", part)
		}
		e := example{}
		for line := range strings.Lines(block) {
			e.command += line
			if !strings.HasSuffix(line, "\\\n") {
				break
			}
		}
		e.output = block[len(e.command):]
		line := strings.ReplaceAll(e.command, "\\\n", " ")
		line, tail, cut := strings.Cut(line, "| tail -n ")
		if cut {
			var err error
			if e.tail, err = strconv.Atoi(strings.TrimSpace(tail)); err != nil {
				t.Fatal(err)
			}
		}
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "$" || words[1] != "davit" {
			t.Fatalf("%q is no command of davit", line)
		}
		e.args = words[2:]
		all = append(all, e)
	}
	return all
}

// shown is what the command prints, as the document shows it.
func (e *example) shown(t *testing.T) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(e.args, streams{in: strings.NewReader(""), out: &out, err: &errs}); code != 0 {
		t.Fatalf("%v exits with %d: %s", e.args, code, errs.String())
	}
	lines := strings.SplitAfter(out.String(), "\n")
	lines = lines[:len(lines)-1]
	if e.tail > 0 {
		lines = lines[max(0, len(lines)-e.tail):]
	}
	return strings.Join(lines, "")
}

// slow says whether a command takes too long for every day.
func (e *example) slow() bool {
	for i, word := range e.args[:len(e.args)-1] {
		if n, err := strconv.Atoi(e.args[i+1]); word == "--devices" && err == nil {
			return n > 1000
		}
	}
	return false
}

// TestRolloutsDocument: the examples of docs/rollouts.md are what the program prints.
func TestRolloutsDocument(t *testing.T) {
	content, err := os.ReadFile(rolloutsFile)
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	examples := examplesOf(t, text)
	if len(examples) < 3 {
		t.Errorf("%d examples", len(examples))
	}
	t.Run("examples", func(t *testing.T) {
		for i, e := range examples {
			t.Run(fmt.Sprint(i+1), func(t *testing.T) {
				if e.slow() && (raceDetector || os.Getenv("DAVIT_TEST_FULL") == "" && !*updateRollouts) {
					t.Skip("a large fleet: the whole check plays it, without the race detector, under which it takes minutes")
				}
				got := e.shown(t)
				if *updateRollouts {
					text = strings.Replace(text, e.command+e.output, e.command+got, 1)
				} else if got != e.output {
					t.Errorf("%s is out of date; write it anew with: go test ./cmd/davit -run TestRolloutsDocument -update-rollouts\n%s\nprints\n%s", rolloutsFile, e.command, got)
				}
			})
		}
	})
	if *updateRollouts {
		if err := os.WriteFile(rolloutsFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
