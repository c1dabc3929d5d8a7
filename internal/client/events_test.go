package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"davit/internal/client"
	"davit/orchestrator"
)

// connection is what a service says on one connection to /v1/events.
type connection struct {
	status int
	text   string
}

// events starts a service that answers each request for events with the next
// connection and ends it, and returns what it was asked for.
func events(t *testing.T, connections ...connection) (*client.Client, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n := len(asked)
		asked = append(asked, fmt.Sprintf("%s?%s after %q", r.URL.Path, r.URL.RawQuery, r.Header.Get("Last-Event-ID")))
		mu.Unlock()
		if n >= len(connections) {
			t.Errorf("connection %d was not expected", n+1)
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(connections[n].status)
		_, _ = w.Write([]byte(connections[n].text)) // a client that has gone is what some tests want
	}))
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(asked)
	}
}

func event(rev int) string {
	return fmt.Sprintf("id: %d\nevent: device\ndata: {\"rev\":%d,\"kind\":\"device\",\"id\":\"pump\",\"record\":{\"type\":\"board\"}}\n\n", rev, rev)
}

var errEnough = errors.New("enough")

// TestEventsResume: a connection that is lost is made again, goes on after the
// last event, and nothing comes twice.
func TestEventsResume(t *testing.T) {
	c, asked := events(t,
		connection{200, ": hello\n\nid: 5\nevent: ready\ndata: {\"rev\":5}\n\n"},                                                        // says where it begins, and breaks off
		connection{200, event(6) + event(7) + strings.TrimSuffix(event(8), "\n")},                                                       // the last one is not complete
		connection{502, "a proxy's page"},                                                                                               // the service is not back yet
		connection{200, strings.ReplaceAll(event(8), "\n", "\r\n") + "event: device\ndata: {\"rev\":9,\ndata: \"id\":\"x\"}\nid:9\n\n"}, // other line ends, data in two lines
	)
	var revs []uint64
	lost := 0
	err := c.Events(t.Context(), client.Follow{
		FeedFilter: orchestrator.FeedFilter{Kinds: []string{"device", "job"}, Job: "j"},
		Event: func(e client.Event) error {
			revs = append(revs, e.Rev)
			if e.Rev == 9 {
				return errEnough
			}
			return nil
		},
		Lost: func(error) { lost++ },
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	if !slices.Equal(revs, []uint64{6, 7, 8, 9}) || lost != 3 {
		t.Errorf("events %v, %d connections lost", revs, lost)
	}
	want := []string{}
	for _, after := range []string{"", "5", "7", "7"} {
		want = append(want, fmt.Sprintf("/v1/events?job=j&kind=device&kind=job after %q", after))
	}
	if got := asked(); !slices.Equal(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
}

// TestEventsEnd: what cannot become better ends the following.
func TestEventsEnd(t *testing.T) {
	never := func(client.Event) error { return errEnough }
	since := uint64(3)

	c, asked := events(t, connection{502, ""})
	if err := c.Events(t.Context(), client.Follow{Since: &since, Event: never}); !client.IsStatus(err, 502) {
		t.Errorf("a first connection that fails: %v", err)
	}
	if got := asked(); len(got) != 1 || !strings.HasSuffix(got[0], `after "3"`) {
		t.Errorf("asked for %q", got)
	}

	c, _ = events(t, connection{200, ""}, connection{401, ""})
	if err := c.Events(t.Context(), client.Follow{Event: never}); !client.IsStatus(err, 401) {
		t.Errorf("a service that refuses: %v", err)
	}

	c, _ = events(t, connection{200, "data: nonsense\n\n"})
	if err := c.Events(t.Context(), client.Follow{Event: never}); err == nil || !strings.Contains(err.Error(), "not understood") {
		t.Errorf("an event that is none: %v", err)
	}

	c, _ = events(t, connection{200, ""})
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Events(ctx, client.Follow{Event: never, Lost: func(error) { cancel() }}); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupt while trying again: %v", err)
	}
	cancel()
}
