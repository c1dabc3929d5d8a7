package bridge

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"

	"davit/schemas"
)

// watcher looks at everything that leaves the bridge.
type watcher struct {
	t   *testing.T
	mu  sync.Mutex
	n   int // lines at level info and above, and messages, of the attacked device
	msg int
}

// seemly fails the test if b has a control character as it stands.
func (w *watcher) seemly(what string, b []byte) {
	if i := bytes.IndexFunc(b, unicode.IsControl); i >= 0 {
		w.t.Errorf("%s with a control character: %q", what, b)
	}
}

// decoded fails the test if the attacker's words stand in v, or control
// characters do, other than in the values of fields.
func (w *watcher) decoded(what, key string, v any, fields []string) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if strings.Contains(k, evil) {
				w.t.Errorf("%s has a field %q", what, k)
			}
			at := k
			if slices.Contains(fields, key) {
				at = key
			}
			w.decoded(what, at, e, fields)
		}
	case []any:
		for _, e := range v {
			w.decoded(what, key, e, fields)
		}
	case string:
		w.seemly(what, []byte(v))
		if strings.Contains(v, evil) && !slices.Contains(fields, key) {
			w.t.Errorf("%s has the host MCU's words in %s: %q", what, key, v)
		}
	}
}

func (w *watcher) object(what string, b []byte, fields ...string) map[string]any {
	w.seemly(what, b)
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		w.t.Errorf("%s is no JSON: %v: %q", what, err, b)
	}
	w.decoded(what, "", v, fields)
	return v
}

// published looks at a message.
func (w *watcher) published(m Message) {
	t, err := schemas.ParseTopic(m.Topic)
	if err != nil || t.Device != pump && t.Device != attacked {
		w.t.Errorf("published on %q", m.Topic)
	}
	w.object("a payload", m.Payload, "host_versions", "host_version", "detail")
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.Device == attacked {
		w.msg++
	}
}

// counts are the lines and messages since the last call.
func (w *watcher) counts() (lines, messages int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines, messages = w.n, w.msg
	w.n, w.msg = 0, 0
	return lines, messages
}

// jsonLog and textLog take the lines of slog's handlers, one with each Write.
type (
	jsonLog struct{ *watcher }
	textLog struct{ *watcher }
)

func (w jsonLog) Write(b []byte) (int, error) {
	v := w.object("a log line", bytes.TrimSuffix(b, []byte("\n")), "versions", "version", "detail")
	w.mu.Lock()
	defer w.mu.Unlock()
	if v["device"] == attacked && v["level"] != "DEBUG" {
		w.n++
	}
	return len(b), nil
}

func (w textLog) Write(b []byte) (int, error) {
	line := string(bytes.TrimSuffix(b, []byte("\n")))
	w.seemly("a log line", []byte(line))
	seen := map[string]bool{}
	for rest := line; rest != ""; {
		var key, value string
		var ok bool
		if key, rest, ok = strings.Cut(rest, "="); !ok || seen[key] || strings.Contains(key, evil) {
			w.t.Errorf("field %q of log line %q", key, line)
			break
		}
		if quoted, err := strconv.QuotedPrefix(rest); err == nil {
			value, rest = quoted, strings.TrimPrefix(rest[len(quoted):], " ")
		} else {
			value, rest, _ = strings.Cut(rest, " ")
		}
		if seen[key] = true; strings.Contains(value, evil) && key != "versions" && key != "version" && key != "detail" {
			w.t.Errorf("the host MCU's words in field %s of log line %q", key, line)
		}
	}
	return len(b), nil
}

// labels looks at the metrics.
func (w *watcher) labels(reg *prometheus.Registry) {
	families, err := reg.Gather()
	if err != nil {
		w.t.Error(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "port" && l.GetValue() != pump && l.GetValue() != attacked || strings.Contains(l.GetValue(), evil) {
					w.t.Errorf("%s has label %s=%q", f.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
}
