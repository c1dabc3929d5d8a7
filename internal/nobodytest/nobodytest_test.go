package nobodytest

import (
	"bytes"
	"os"
	"testing"
)

func TestCommand(t *testing.T) {
	const child = "DAVIT_TEST_NOBODY_CHILD"
	if os.Getenv(child) != "" {
		if os.Geteuid() == 0 {
			t.Error("it is root")
		}
		if err := os.WriteFile("file", nil, 0o600); err != nil {
			t.Error(err)
		}
		return
	}
	if out, err := Command(t, "TestCommand", child+"=1").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestCommand")) {
		t.Errorf("%v\n%s", err, out)
	}
}
