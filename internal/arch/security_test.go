package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// attacks are those that TUF and Uptane name, and the threats of RFC 9124, section 4.2: each stands in
// SECURITY.md.
var attacks = strings.Fields(`
	arbitrary-software rollback fast-forward indefinite-freeze endless-data slow-retrieval mix-and-match mixed-bundles partial-bundle
	wrong-software drop-request key-compromise malicious-mirror eavesdropping extraneous-dependencies
	THREAT.IMG.EXPIRED THREAT.IMG.EXPIRED.OFFLINE THREAT.IMG.INCOMPATIBLE THREAT.IMG.FORMAT THREAT.IMG.LOCATION THREAT.NET.REDIRECT
	THREAT.NET.ONPATH THREAT.IMG.REPLACE THREAT.IMG.NON_AUTH THREAT.UPD.WRONG_PRECURSOR THREAT.UPD.UNAPPROVED THREAT.IMG.DISCLOSURE
	THREAT.MFST.OVERRIDE THREAT.MFST.EXPOSURE THREAT.IMG.EXTRA THREAT.KEY.EXPOSURE THREAT.MFST.MODIFICATION THREAT.MFST.TOCTOU`)

// TestSecurityNamesTests holds that each test that SECURITY.md names exists, and that
// each attack of its tables names one, and that no known attack is missing.
func TestSecurityNamesTests(t *testing.T) {
	document, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	exist := testNames(t)
	name := regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	known := map[string]bool{}
	for line := range strings.Lines(string(document)) {
		named := name.FindAllStringSubmatch(line, -1)
		for _, n := range named {
			if !exist[n[1]] {
				t.Errorf("SECURITY.md names %s, which is no test", n[1])
			}
		}
		if row := strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| attack |") && !strings.HasPrefix(line, "| threat |"); row {
			if len(named) == 0 {
				t.Errorf("no test stands in the row %q", line)
			}
			for attack := range strings.SplitSeq(strings.Split(line, "|")[1], ",") {
				known[strings.ReplaceAll(strings.TrimSpace(attack), " ", "-")] = true
			}
		}
	}
	for _, attack := range attacks {
		if !known[attack] {
			t.Errorf("SECURITY.md has no row for %s", attack)
		}
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
