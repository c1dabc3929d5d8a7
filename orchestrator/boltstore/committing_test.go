package boltstore

import (
	"context"
	"path/filepath"
	"testing"

	"davit/orchestrator"
)

// TestCommittingSeesAnUpdateThatDoesNotEnd: the watch over the writer sees one that is stuck, and nothing
// else.
func TestCommittingSeesAnUpdateThatDoesNotEnd(t *testing.T) {
	s, err := Open(Options{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if d := s.Committing(); d != 0 {
			t.Errorf("a writer that has ended commits for %s", d)
		}
	}()
	begun, hold, ended := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- s.Update(context.Background(), func(orchestrator.Writer) error {
			begun <- struct{}{}
			<-hold
			return nil
		})
	}()
	<-begun
	if s.Committing() == 0 {
		t.Error("a commit is under way and is not seen")
	}
	close(hold)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
