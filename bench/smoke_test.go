package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMain lets this program be the floor as well.
func TestMain(m *testing.M) {
	if is, err := floorMain(); is {
		_, _ = io.WriteString(os.Stderr, err.Error()+"\n") // it only ends with an error
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestSuite runs every measure at a tiny size and has it write its part of a document.
func TestSuite(t *testing.T) {
	if os.Getenv("DAVIT_TEST_FULL") != "1" {
		t.Skip("starts mosquitto and nginx; runs under DAVIT_TEST_FULL=1")
	}
	if err := lookForPrograms(); err != nil {
		t.Fatal(err)
	}
	document := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := os.WriteFile(document, []byte("# Figures\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &suite{dir: t.TempDir(), binary: buildForTest(t), runs: 1, quick: true, out: t.Output()}
	for _, m := range measures() {
		found, err := s.perform(t.Context(), m)
		if err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
		if err := publish(document, m, found, "a note"); err != nil {
			t.Fatal(err)
		}
	}
	doc := readOr(document)
	for _, m := range measures() {
		for _, want := range []string{beginMark(m.name), "### " + m.title, endMark(m.name)} {
			if !bytes.Contains(doc, []byte(want)) {
				t.Errorf("the document has no %q:\n%s", want, doc)
			}
		}
	}
}

// buildForTest makes the program.
func buildForTest(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "davit")
	// As other tests build it, so that the build cache serves all of them.
	if out, err := exec.Command("go", "build", "-o", binary, "davit/cmd/davit").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}
