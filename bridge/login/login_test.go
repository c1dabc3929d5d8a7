package login

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errPower = errors.New("power failure")

// broker is what the service keeps: a password, and one beside it.
type broker struct{ good, pending string }

// login logs in with whatever the file says until it is let in, as a bridge does.
func (b *broker) login(t *testing.T, f *File) (with string, err error) {
	t.Helper()
	for range 3 {
		with = f.Password()
		switch with {
		case b.pending:
			b.good, b.pending = b.pending, ""
			return with, f.Accepted()
		case b.good:
			return with, f.Accepted()
		}
		f.Refused()
	}
	t.Errorf("nothing logs in: the file has %q and %q, the service %+v", f.current, f.before, *b)
	return "", nil
}

// A crash before or after any write leaves files by which the bridge logs in, whether the
// service still has the new password or not.
func TestCrashAtEachStep(t *testing.T) {
	for _, kept := range []bool{true, false} {
		for _, after := range []bool{true, false} {
			for step := 1; ; step++ {
				name := fmt.Sprintf("new password kept %v, step %d, persisted %v", kept, step, after)
				path := filepath.Join(t.TempDir(), "password")
				if err := write(path, "old"); err != nil {
					t.Fatal(err)
				}
				f, err := Open(path)
				if err != nil {
					t.Fatal(err)
				}
				left := step
				fail := func(do func() error) error {
					if left--; left == 0 {
						if after {
							_ = do() // it does, and nobody hears of it
						}
						return errPower
					}
					if left < 0 {
						return errPower // the machine is down
					}
					return do()
				}
				f.write = func(path, p string) error { return fail(func() error { return write(path, p) }) }
				f.clear = func(path string) error { return fail(func() error { return remove(path) }) }
				b := &broker{good: "old", pending: "new"}
				if !kept {
					b.pending = ""
				}
				crashed := f.Put("new") != nil
				if !crashed {
					_, err := b.login(t, f)
					crashed = err != nil
				}
				again, err := Open(path)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if with, err := b.login(t, again); err != nil || with != b.good {
					t.Errorf("%s: %q, %v", name, with, err)
				}
				if _, err := os.Stat(path + previousSuffix); err == nil {
					t.Errorf("%s: the password before is left", name)
				}
				if last, err := Open(path); err != nil || last.Password() != b.good {
					t.Errorf("%s: the file does not have what is good", name)
				}
				if !crashed {
					break
				}
			}
		}
	}
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	for content, want := range map[string]string{"secret\n": "secret", "secret": "secret", "": "", "a\nb\n": ""} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if (err == nil) != (want != "") || err == nil && f.Password() != want {
			t.Errorf("%q: %v", content, err)
		}
	}
	if _, err := Open(path + ".none"); err == nil {
		t.Error("a file that is not there")
	}
}
