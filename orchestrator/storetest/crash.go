package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"davit/orchestrator"
)

// crashEnv names the folder in which a copy of the test program, started by
// Crash, works until it is killed.
const crashEnv = "DAVIT_STORETEST_CRASH"

const crashProducers = 16

// CrashChild has to be called first in the TestMain of a package that uses
// Crash. In the process that Crash starts it does not return.
func CrashChild(open func(dir string) (orchestrator.Store, error)) {
	dir := os.Getenv(crashEnv)
	if dir == "" {
		return
	}
	if err := crashWork(dir, open); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}

// crashWork updates the store from many goroutines without end and prints each
// update after the store has answered it.
func crashWork(dir string, open func(string) (orchestrator.Store, error)) error {
	s, err := open(dir)
	if err != nil {
		return err
	}
	var out sync.Mutex
	errs := make(chan error)
	for p := range crashProducers {
		go func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d-%d-%d", os.Getpid(), p, i)
				if err := s.Update(context.Background(), crashUpdate(key)); err != nil {
					errs <- err
					return
				}
				out.Lock()
				_, err := fmt.Println(key)
				out.Unlock()
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

// crashUpdate writes one key to two tables, with values long enough to split
// pages, and raises a counter.
func crashUpdate(key string) func(orchestrator.Writer) error {
	value := []byte(strings.Repeat(key, 20))
	return func(w orchestrator.Writer) error {
		return errors.Join(w.Put(table, []byte(key), value), raiseNumber(w), w.Put(other, []byte(key), value))
	}
}

func raiseNumber(w orchestrator.Writer) error {
	v, err := w.Get(other, []byte("counter"))
	if err != nil {
		return err
	}
	n := 0
	if v != nil {
		if _, err := fmt.Sscan(string(v), &n); err != nil {
			return err
		}
	}
	return w.Put(other, []byte("counter"), fmt.Append(nil, n+1))
}

// Crash kills a process that is in the middle of concurrent updates, several
// times over on one folder, and checks each time that every update that was
// answered is there and that none is there by half.
func Crash(t *testing.T, open func(dir string) (orchestrator.Store, error)) {
	dir := t.TempDir()
	answered := map[string]bool{}
	for round := range 4 {
		crashOnce(t, dir, 150+250*round, answered)
		crashVerify(t, dir, open, answered)
	}
}

func crashOnce(t *testing.T, dir string, after int, answered map[string]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+dir)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(pipe)
	for n := 0; ; n++ {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // what was printed before the kill has been read; a last line without its end is not an answer
		}
		answered[strings.TrimSpace(line)] = true
		if n == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	if err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the process ended by itself: %v", err)
	}
}

func crashVerify(t *testing.T, dir string, open func(string) (orchestrator.Store, error), answered map[string]bool) {
	t.Helper()
	s, err := open(dir)
	if err != nil {
		t.Fatalf("open after the crash: %v", err)
	}
	defer s.Close()
	found := map[string]int{}
	counter := 0
	err = s.View(context.Background(), func(r orchestrator.Reader) error {
		for _, tb := range []orchestrator.Table{table, other} {
			if err := r.Scan(tb, nil, nil, func(k, v []byte) bool {
				if string(k) == "counter" {
					_, err := fmt.Sscan(string(v), &counter)
					return err == nil
				}
				if string(v) != strings.Repeat(string(k), 20) {
					t.Errorf("%s has a damaged value of %d bytes", k, len(v))
				}
				found[string(k)]++
				return true
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for key := range answered {
		if found[key] == 0 {
			t.Errorf("update %s was answered and is lost", key)
		}
	}
	for key, n := range found {
		if n != 2 {
			t.Errorf("update %s is there by half", key)
		}
	}
	if counter != len(found) {
		t.Errorf("the counter is %d, there are %d updates", counter, len(found))
	}
	t.Logf("%d updates answered, %d found", len(answered), len(found))
}
