// Package secrettest finds secrets in what programs print while they are tested: logs at every level,
// answers, pages of metrics, the audit log, output and arguments of processes. A secret that a test chooses
// begins with Mark; one that a program makes is planted in a Watch when it is made. The package is for
// tests only and imports no package of ours.
package secrettest

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Mark begins every secret that a test chooses: admin tokens, passwords, passphrases. It occurs in nothing
// else.
const Mark = "planted-secret-"

// shortest is the shortest secret that is searched for, in bytes: a shorter one could occur by chance.
const shortest = 8

// Watch searches what one test's programs print. Its methods may be called at the same time.
type Watch struct {
	t       testing.TB
	mu      sync.Mutex
	secrets []string // with the other forms that each can be printed in
	told    []string // what was reported, each once
}

// New returns a Watch that knows Mark.
func New(t testing.TB) *Watch {
	w := &Watch{t: t}
	w.Plant(Mark)
	return w
}

// Plant has a secret searched for from now on, and returns it. Its base64 (as in basic authentication, behind
// whatever stands before it), its hexadecimal and its escaped form count as well.
func (w *Watch) Plant(secret string) string {
	if len(secret) < shortest {
		return secret
	}
	forms := []string{secret, hex.EncodeToString([]byte(secret)), url.QueryEscape(secret)}
	for before := range 3 {
		// The first and the last characters depend on the neighbours.
		text := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat(" ", before) + secret))
		forms = append(forms, text[(before*8+5)/6:len(text)-1])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range forms {
		if !slices.Contains(w.secrets, f) {
			w.secrets = append(w.secrets, f)
		}
	}
	return secret
}

// Search fails the test if a text has a secret; where says whose text it is.
func (w *Watch) Search(where, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, secret := range w.secrets {
		at := strings.Index(text, secret)
		if at < 0 {
			continue
		}
		line := text[strings.LastIndexByte(text[:at], '\n')+1:]
		if end := strings.IndexByte(line, '\n'); end >= 0 {
			line = line[:end]
		}
		if said := fmt.Sprintf("%s: a secret was printed: %s", where, line); !slices.Contains(w.told, said) {
			w.told = append(w.told, said)
			w.t.Error(said)
		}
	}
}

// Fail says that something could not be searched.
func (w *Watch) Fail(err error) { w.t.Error("search for secrets:", err) }

// Writer is where something prints to that is searched line by line, or write by write, and kept by no one.
func (w *Watch) Writer(where string) io.Writer { return writer{w, where} }

type writer struct {
	watch *Watch
	where string
}

func (w writer) Write(p []byte) (int, error) {
	w.watch.Search(w.where, string(p))
	return len(p), nil
}

// Logger searches every record, whatever its level, and then hands it to next, which may be nil.
func (w *Watch) Logger(next slog.Handler) *slog.Logger {
	var all slog.Handler = slog.NewTextHandler(w.Writer("log"), &slog.HandlerOptions{Level: slog.Level(-128)})
	if next != nil {
		all = slog.NewMultiHandler(all, next)
	}
	return slog.New(handler{all, w})
}

// handler remembers whose it is.
type handler struct {
	slog.Handler
	watch *Watch
}

// Plant is Watch.Plant for who has only the logger that Watch.Logger has returned.
func Plant(log *slog.Logger, secret string) string {
	if h, ok := log.Handler().(handler); ok {
		h.watch.Plant(secret)
	}
	return secret
}
