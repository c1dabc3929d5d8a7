package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityNamesTests holds that each test that SECURITY.md names exists, and that
// each attack of its tables names one.
func TestSecurityNamesTests(t *testing.T) {
	document, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	exist := testNames(t)
	name := regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	rows := 0
	for line := range strings.Lines(string(document)) {
		named := name.FindAllStringSubmatch(line, -1)
		for _, n := range named {
			if !exist[n[1]] {
				t.Errorf("SECURITY.md names %s, which is no test", n[1])
			}
		}
		if row := strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| attack |") && !strings.HasPrefix(line, "| threat |"); row {
			if rows++; len(named) == 0 {
				t.Errorf("no test stands in the row %q", line)
			}
		}
	}
	if rows < 30 {
		t.Errorf("SECURITY.md has %d attacks", rows)
	}
}

// testNames are the names of all tests of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	function := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`)
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, "_test.go") {
			return err
		}
		b, err := os.ReadFile(p)
		for _, m := range function.FindAllSubmatch(b, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
