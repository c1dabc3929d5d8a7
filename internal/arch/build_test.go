package arch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is the program, built once for all tests of this package.
var built = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "davit-arch-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(folder, "davit")
	cmd := exec.Command("go", "build", "-trimpath", "-o", binary, root+"/cmd/davit")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is published; with other flags than a release all of it would be compiled twice
	if out, err := cmd.CombinedOutput(); err != nil {
		return binary, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binary, nil
})

// davit is the path of the program.
func davit(t *testing.T) string {
	t.Helper()
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binary, _ := built(); binary != "" {
		_ = os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

// program is the path of a program of Debian's; without it the test is skipped, and fails under DAVIT_TEST_FULL=1.
func program(t *testing.T, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
	case os.Getenv("DAVIT_TEST_FULL") == "1":
		t.Fatalf("%s is not installed, and DAVIT_TEST_FULL=1 wants it: apt-get install %s", name, debianPackage)
	default:
		t.Skipf("%s is not installed: apt-get install %s", name, debianPackage)
	}
	return path
}
