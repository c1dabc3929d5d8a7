package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// healthEvery is how often Health looks by itself, so that it knows since when something is so.
const healthEvery = 2 * time.Second

// Check is one condition for being ready, or alive.
type Check struct {
	// Name says what is checked, for example "broker".
	Name string
	// Healthy returns nil or a sentence that says what is wrong. It is called every two
	// seconds and for every question, so it is cheap and does not wait.
	Healthy func(context.Context) error
	// Remedy is a sentence that says what to do when it is not healthy; empty if the error
	// says that, too.
	Remedy string
	// Detail says more of what is healthy, for people; nil for nothing.
	Detail func(context.Context) string
}

// CheckState is a check with how it stands.
type CheckState struct {
	Name string `json:"name" doc:"What is checked"`
	OK   bool   `json:"ok" doc:"Nothing is wrong"`
	// Since is when that began, to two seconds; the start of the program if it was always so.
	Since  time.Time `json:"since" doc:"Since when that is so"`
	Reason string    `json:"reason,omitempty" doc:"What is wrong"`
	Remedy string    `json:"remedy,omitempty" doc:"What to do about it"`
	Detail string    `json:"detail,omitempty" doc:"More about what is in order"`
}

// Readiness is the answer of /readyz, and in JSON of /livez.
type Readiness struct {
	Ready bool `json:"ready"`
	// Checks has "ok" or the reason for each check.
	Checks map[string]string `json:"checks"`
	// Details are the checks with all that is known of them, in their order.
	Details []CheckState `json:"details"`
}

// Health says how the checks of a process stand, and since when. It is an http.Handler: 200 when
// all is well, else 503. The answer is JSON, or text with a line for each check for who asks with
// ?verbose or for text/plain; ?exclude=NAME, which may be repeated, leaves a check out.
type Health struct {
	name   string // "ready" or "live"
	text   bool   // a plain question is answered in text
	checks []Check

	mu   sync.Mutex
	last []CheckState
}

// NewReadiness makes the handler of /readyz.
func NewReadiness(checks []Check) *Health { return newHealth("ready", false, checks) }

// NewLiveness makes the handler of /livez, which answers "ok" to a plain question. Its checks fail
// only when nothing but a restart would help.
func NewLiveness(checks []Check) *Health { return newHealth("live", true, checks) }

func newHealth(name string, text bool, checks []Check) *Health {
	h := &Health{name: name, text: text, checks: checks, last: make([]CheckState, len(checks))}
	now := time.Now()
	for i, c := range checks {
		h.last[i] = CheckState{Name: c.Name, Since: now, OK: true}
	}
	return h
}

// Look asks every check now.
func (h *Health) Look(ctx context.Context) []CheckState {
	fresh := make([]CheckState, len(h.checks))
	for i, c := range h.checks {
		fresh[i] = CheckState{Name: c.Name, OK: true}
		if err := c.Healthy(ctx); err != nil {
			fresh[i].OK, fresh[i].Reason, fresh[i].Remedy = false, strings.ReplaceAll(err.Error(), "\n", "; "), c.Remedy
		} else if c.Detail != nil {
			fresh[i].Detail = c.Detail(ctx)
		}
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range fresh {
		fresh[i].Since = h.last[i].Since
		if fresh[i].OK != h.last[i].OK {
			fresh[i].Since = now
		}
	}
	h.last = slices.Clone(fresh)
	return fresh
}

// Run looks every two seconds until ctx ends, and returns nil then.
func (h *Health) Run(ctx context.Context) error {
	ticker := time.NewTicker(healthEvery)
	defer ticker.Stop()
	for {
		h.Look(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// ServeHTTP implements http.Handler.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	states := slices.DeleteFunc(h.Look(r.Context()), func(s CheckState) bool { return slices.Contains(query["exclude"], s.Name) })
	answer := Readiness{Ready: true, Checks: map[string]string{}, Details: states}
	for _, s := range states {
		answer.Ready = answer.Ready && s.OK
		answer.Checks[s.Name] = cmp.Or(s.Reason, "ok")
	}
	status := http.StatusOK
	if !answer.Ready {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	if h.wantsText(r) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		// The client may be gone; there is nobody else to tell.
		_, _ = w.Write([]byte(h.lines(answer, query.Has("verbose"))))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// wantsText says whether the answer is text and not JSON.
func (h *Health) wantsText(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	json, text := strings.Index(accept, "application/json"), strings.Index(accept, "text/plain")
	switch {
	case r.URL.Query().Has("verbose"):
		return true
	case json >= 0 && text >= 0:
		return text < json
	case json >= 0:
		return false
	}
	return text >= 0 || h.text
}

// lines are a line for each check and one for all; only "ok" if that is so and nobody asked for more.
func (h *Health) lines(r Readiness, verbose bool) string {
	if r.Ready && !verbose && h.text {
		return "ok\n"
	}
	var b strings.Builder
	for _, s := range r.Details {
		if s.OK {
			fmt.Fprintf(&b, "[+] %s: ok since %s", s.Name, s.Since.UTC().Format(time.RFC3339))
		} else {
			fmt.Fprintf(&b, "[-] %s: failed since %s: %s", s.Name, s.Since.UTC().Format(time.RFC3339), s.Reason)
		}
		for _, more := range []string{s.Detail, s.Remedy} {
			if more != "" {
				b.WriteString("; " + more)
			}
		}
		b.WriteByte('\n')
	}
	if r.Ready {
		return b.String() + h.name + "\n"
	}
	return b.String() + "not " + h.name + "\n"
}
