package arch

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestPinned: whatever a build or a deployment fetches is named with its exact version, the same everywhere.
func TestPinned(t *testing.T) {
	binary := string(readFile(t, "release/binary"))
	compiler := regexp.MustCompile(`GOTOOLCHAIN=go(1\.\d+\.\d+)\b`)
	pinned := compiler.FindStringSubmatch(binary)
	if pinned == nil {
		t.Fatal("release/binary names no compiler")
	}
	for _, script := range []string{"release/binary", "release/build", "release/deb"} {
		for _, other := range compiler.FindAllStringSubmatch(string(readFile(t, script)), -1) {
			if other[1] != pinned[1] {
				t.Errorf("%s builds with Go %s, release/binary with %s", script, other[1], pinned[1])
			}
		}
	}
	dockerfile := string(readFile(t, "Dockerfile"))
	if !strings.Contains(dockerfile, "\nFROM golang:"+pinned[1]+" ") {
		t.Errorf("the Dockerfile does not begin with golang:%s, the compiler of release/binary", pinned[1])
	}
	if !strings.Contains(dockerfile, " release/binary /out/davit") || strings.Contains(dockerfile, "go build") {
		t.Error("the Dockerfile does not build with release/binary")
	}
	var c compose
	readYAML(t, "docker-compose.yml", &c)
	exact := regexp.MustCompile(`^[a-z0-9./-]+:v?\d+\.\d+\.\d+(-[a-z0-9.]+)?(@sha256:[0-9a-f]{64})?$`)
	for name, s := range c.Services {
		if s.Build == "" && !exact.MatchString(s.Image) {
			t.Errorf("docker-compose.yml: the image of %s has no exact version: %s", name, s.Image)
		}
	}
	for _, name := range []string{"go.mod", "release/tools/go.mod", "gateway/people/oidctest/go.mod"} {
		noReplacement(t, name)
	}
}

// noReplacement: a module from somewhere else than its name says would be in no list of ours. The tests of
// sign-in replace davit by this very folder.
func noReplacement(t *testing.T, name string) {
	t.Helper()
	for line := range strings.Lines(string(readFile(t, name))) {
		if from, to, ok := strings.Cut(line, "=>"); ok && (!strings.HasPrefix(strings.TrimSpace(to), "../") || !strings.Contains(from, "davit")) {
			t.Errorf("%s replaces a module: %s", name, line)
		}
	}
	if _, err := os.Stat(root + "/" + strings.TrimSuffix(name, "mod") + "sum"); err != nil {
		t.Errorf("%s has no hashes beside it: %v", name, err)
	}
}
