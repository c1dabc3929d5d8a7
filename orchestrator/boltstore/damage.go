package boltstore

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Damaged is closed when a page of the file turned out to be damaged while the store was in use. From then on
// nothing is read and nothing is written: what the file says cannot be believed.
func (s *Store) Damaged() <-chan struct{} { return s.damage }

// Damage is what is wrong with the file, nil if nothing is known. It wraps ErrDamaged.
func (s *Store) Damage() error {
	select {
	case <-s.damage:
		return s.damageErr
	default:
		return nil
	}
}

// guarded runs what reads pages: everything that does goes through it. A page that the disk cannot read, or that makes no
// sense to bbolt, is its error.
func (s *Store) guarded(fn func() error) (err error) {
	if err := s.Damage(); err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // of this goroutine
	defer func() {
		p := recover()
		if bad := s.damagedBy(p); bad != nil {
			err = bad
		} else if p != nil {
			panic(p)
		}
	}()
	return fn()
}

// damagedBy notes a panic that came of reading pages, and returns the error; nil for any other panic. It has to be called
// by the function that recovers, while the stack is still that of the panic.
func (s *Store) damagedBy(p any) error {
	if p == nil || !ofPages() {
		return nil
	}
	s.damageOnce.Do(func() {
		s.damageErr = damaged(s.path, "while it was in use, a page could not be read: %.200s", fmt.Sprint(p))
		close(s.damage)
	})
	return s.damageErr
}

// ofPages says whether the panic under way began where pages are read: in bbolt, or here where keys and values are
// copied. What the functions of callers do is their own.
func ofPages() bool {
	const ours = "davit/orchestrator/boltstore."
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	panicking := false
	for {
		f, more := frames.Next()
		switch {
		case f.Function == "runtime.gopanic":
			panicking = true
		case panicking && !strings.HasPrefix(f.Function, "runtime.") && !strings.HasPrefix(f.Function, "bytes.") && !strings.HasPrefix(f.Function, "internal/"):
			for _, reads := range []string{"go.etcd.io/bbolt", ours + "(*tx)", ours + "owned", ours + "copyAll", ours + "copyKeys", ours + "(*bulk)"} {
				if strings.HasPrefix(f.Function, reads) {
					return true
				}
			}
			return false
		}
		if !more {
			return false
		}
	}
}
