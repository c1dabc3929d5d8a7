package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"davit/release/manpages"
)

// manual writes the manual into a folder.
func manual(t *testing.T) (*cobra.Command, string) {
	t.Helper()
	root, dir := tree(), filepath.Join(t.TempDir(), "man")
	root.InitDefaultCompletionCmd()
	if err := manpages.Write(root, dir, manpages.Release{Version: "1.2.3-4-gabc", Date: time.Date(2025, 3, 1, 23, 0, 0, 0, time.FixedZone("", -3600))}); err != nil {
		t.Fatal(err)
	}
	return root, dir
}

// Every command has a page that names and describes it and its flags, and the same each time.
func TestManual(t *testing.T) {
	root, dir := manual(t)
	_, again := manual(t)
	pages := 0
	visit := func(c *cobra.Command) {
		pages++
		page, err := os.ReadFile(filepath.Join(dir, manpages.Name(c)))
		if err != nil {
			t.Error(err)
			return
		}
		other, err := os.ReadFile(filepath.Join(again, manpages.Name(c)))
		if err != nil || !bytes.Equal(page, other) {
			t.Errorf("%s is another one the second time: %v", manpages.Name(c), err)
		}
		text := plainText(page)
		for _, want := range []string{
			`.TH "` + strings.ToUpper(strings.ReplaceAll(c.CommandPath(), " ", "-")) + `" "1" "2025-03-02" "davit 1.2.3-4-gabc" "davit manual"`,
			".SH NAME\n" + strings.ReplaceAll(c.CommandPath(), " ", "-") + " - " + c.Short + "\n",
			".SH DESCRIPTION\n", ".SH EXIT STATUS\n",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %q", manpages.Name(c), want)
			}
		}
		for flag := range flagNames(c) {
			if !strings.Contains(text, "--"+flag) {
				t.Errorf("%s does not tell of --%s", manpages.Name(c), flag)
			}
		}
	}
	visit(root)
	each(root, visit)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < pages {
		t.Errorf("%d pages for %d commands; %v", len(files), pages, err)
	}
}

func flagNames(c *cobra.Command) map[string]bool {
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z0-9-]+)`).FindAllStringSubmatch(c.LocalFlags().FlagUsages(), -1) {
		names[m[1]] = true
	}
	return names
}

// plainText is a page without the escapes of its letters.
func plainText(page []byte) string {
	return strings.NewReplacer(`\-`, "-", `\(aq`, "'", `\(ga`, "`", `\(ha`, "^", `\(ti`, "~", `\(dq`, `"`, `\e`, `\`).Replace(string(page))
}

// mandoc finds nothing to warn about in the manual.
func TestManualIsWellFormed(t *testing.T) {
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		if os.Getenv("DAVIT_TEST_FULL") != "" {
			t.Fatal("mandoc is not installed (Debian package mandoc)")
		}
		t.Skip("mandoc is not installed (Debian package mandoc)")
	}
	_, dir := manual(t)
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) == 0 {
		t.Fatal(err)
	}
	out, err := exec.Command(mandoc, append([]string{"-T", "lint", "-W", "warning"}, pages...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// The release's script writes the same pages.
func TestReleaseWritesTheManual(t *testing.T) {
	if os.Getenv("DAVIT_TEST_FULL") == "" {
		t.Skip("builds a program; DAVIT_TEST_FULL=1 runs it")
	}
	_, want := manual(t)
	dir := t.TempDir()
	cmd := exec.Command("../../release/man", dir)
	cmd.Env = append(os.Environ(), "DAVIT_VERSION=1.2.3-4-gabc", "SOURCE_DATE_EPOCH=1740873600")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pages, err := os.ReadDir(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		a, err := os.ReadFile(filepath.Join(want, page.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, page.Name()))
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s is another one: %v", page.Name(), err)
		}
	}
}
