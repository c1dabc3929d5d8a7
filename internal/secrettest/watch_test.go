package secrettest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// witness is a test that notes its failures instead.
type witness struct {
	testing.TB
	said []string
}

func (w *witness) Error(args ...any) { w.said = append(w.said, fmt.Sprint(args...)) }

// TestPlantedSecretIsFound: whatever a program prints a secret by, the test fails. So a rig that says nothing
// has found nothing.
func TestPlantedSecretIsFound(t *testing.T) {
	const made = "K7QX2WVN4JH6"
	for name, print := range map[string]func(*Watch, *slog.Logger){
		"a message":         func(_ *Watch, l *slog.Logger) { l.Info("the password is " + made) },
		"an attribute":      func(_ *Watch, l *slog.Logger) { l.Error("login", slog.String("password", made)) },
		"below every level": func(_ *Watch, l *slog.Logger) { l.Log(t.Context(), slog.LevelDebug-8, made) },
		"a logger's own":    func(_ *Watch, l *slog.Logger) { l.With("token", made).Warn("refused") },
		"in a group": func(_ *Watch, l *slog.Logger) {
			l.WithGroup("request").Info("x", slog.Group("header", slog.String("a", made)))
		},
		"an error":              func(_ *Watch, l *slog.Logger) { l.Info("x", slog.Any("error", fmt.Errorf("bad login %q", made))) },
		"one that a test chose": func(_ *Watch, l *slog.Logger) { l.Info("token " + Mark + "admin") },
		"a page":                func(w *Watch, _ *slog.Logger) { w.Search("metrics", "a 1\nb{user=\""+made+"\"} 2\n") },
		"basic authentication": func(w *Watch, _ *slog.Logger) {
			w.Search("header", base64.StdEncoding.EncodeToString([]byte("rack:"+made)))
		},
		"bytes": func(w *Watch, _ *slog.Logger) { fmt.Fprintf(w.Writer("output"), "% s %x", "packet", made) },
	} {
		out := &witness{TB: t}
		w := New(out)
		w.Plant(made)
		var next bytes.Buffer
		print(w, w.Logger(slog.NewTextHandler(&next, nil)))
		if len(out.said) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
	out := &witness{TB: t}
	w := New(out)
	w.Plant(made)
	w.Plant("short")
	var next bytes.Buffer
	l := w.Logger(slog.NewTextHandler(&next, nil))
	l.Info("login", slog.String("user", "rack"), slog.String("why", "short of K7QX2WVN4JH5, planted a tree"))
	if len(out.said) > 0 || !strings.Contains(next.String(), "user=rack") {
		t.Errorf("found %q where there is nothing; handed on: %s", out.said, next.String())
	}
	l.Info(made)
	l.Info(made + "\n")
	w.Search("page", "first\n"+made+"\nlast")
	if len(out.said) == 0 || strings.Contains(out.said[len(out.said)-1], "first") || strings.Contains(out.said[len(out.said)-1], "last") {
		t.Errorf("what is told is not the line: %q", out.said)
	}
}

// TestEverySecretInEveryForm: for any secret and whatever stands around it.
func TestEverySecretInEveryForm(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		secret := rapid.StringN(shortest, 40, -1).Draw(rt, "secret")
		before, after := rapid.String().Draw(rt, "before"), rapid.String().Draw(rt, "after")
		for form, text := range map[string]string{
			"as it is": before + secret + after, "base64": base64.StdEncoding.EncodeToString([]byte(before + secret + after)),
			"base64 without padding": base64.RawStdEncoding.EncodeToString([]byte(before + secret + after)), "query": url.QueryEscape(before + secret + after),
		} {
			out := &witness{TB: t}
			w := New(out)
			w.Plant(secret)
			if w.Search("text", text); len(out.said) == 0 {
				rt.Fatalf("%q is not found %s: %q", secret, form, text)
			}
		}
	})
}
