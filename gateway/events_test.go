package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"davit/gateway"
	"davit/gateway/people"
	"davit/orchestrator"
)

// sse is one message of a stream.
type sse struct {
	id, event string
	feed      orchestrator.FeedEvent
}

// follow opens a stream; last is the Last-Event-ID, "" for none.
func (r *apiRig) follow(ctx context.Context, query, last string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/v1/events"+query, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp
}

// messages calls fn for each message until it returns false or the stream ends.
func messages(t testing.TB, resp *http.Response, fn func(sse) bool) {
	t.Helper()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	var m sse
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			m.id = value
		case "event":
			m.event = value
		case "data":
			if err := json.Unmarshal([]byte(value), &m.feed); err != nil {
				t.Errorf("%v in %s", err, value)
			}
		case "":
			if !fn(m) {
				return
			}
			m = sse{}
		}
	}
}

// TestEventsResumeWithoutAGap follows with connections that break all the time
// while everything changes at full speed: ids grow strictly, and in the end the
// follower has seen every record as it stands.
func TestEventsResumeWithoutAGap(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	const writers, connections = 3, 12
	stop := make(chan struct{})
	var changing sync.WaitGroup
	for w := range writers {
		changing.Go(func() { r.change(w, stop) })
	}
	seen := map[string]orchestrator.FeedEvent{}
	last, before, end := "0", uint64(0), uint64(1<<63)
	for i := 0; before < end; i++ {
		if i == connections {
			close(stop)
			changing.Wait()
			var err error
			if end, err = r.service.LastRev(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		left := 1 + rng.IntN(40)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		resp := r.follow(ctx, "", last)
		messages(t, resp, func(m sse) bool {
			if m.id != "" {
				last = m.id
			}
			if m.event == "" {
				return true
			}
			if rev, err := strconv.ParseUint(m.id, 10, 64); err != nil || rev <= before || rev != m.feed.Rev {
				t.Errorf("id %q follows %d (%v), its event is %+v", m.id, before, err, m.feed)
			} else {
				before = rev
			}
			seen[m.feed.Kind+" "+m.feed.ID] = m.feed
			left--
			return left > 0
		})
		cancel()
		_ = resp.Body.Close()
	}
	t.Logf("%d changes", end)
	r.asTheyStand(seen, writers)
}

// change edits, deletes and makes devices again.
func (r *apiRig) change(writer int, stop chan struct{}) {
	ctx := context.Background()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		id := fmt.Sprintf("w%d-%d", writer, i%7)
		labels := map[string]string{"n": strconv.Itoa(i)}
		_, err := r.service.UpdateDevice(ctx, id, orchestrator.DevicePatch{Labels: &labels})
		switch {
		case err != nil:
			_, err = r.service.CreateDevice(ctx, orchestrator.NewDevice{ID: id, Type: "pump", Labels: labels})
		case i%5 == 0:
			err = r.service.DeleteDevice(ctx, id)
		}
		if err != nil {
			r.t.Error(err)
		}
	}
}

// asTheyStand compares what a follower saw last with the records.
func (r *apiRig) asTheyStand(seen map[string]orchestrator.FeedEvent, writers int) {
	r.t.Helper()
	for w := range writers {
		for i := range 7 {
			id := fmt.Sprintf("w%d-%d", w, i)
			ev, ok := seen["device "+id]
			d, err := r.service.Device(r.t.Context(), id)
			if !ok || ev.Deleted != (err != nil) {
				r.t.Errorf("%s: seen %v %+v, there is %+v %v", id, ok, ev, d, err)
				continue
			}
			if record, _ := ev.Record.(map[string]any); err == nil && fmt.Sprint(record["labels"]) != fmt.Sprint(d.Labels) {
				r.t.Errorf("%s: seen last with %v, it has %v", id, record["labels"], d.Labels)
			}
		}
	}
}

// TestEventsBeginAtThePresent: without an id the stream says where it begins and
// tells only what happens then, and only what the filter lets through.
func TestEventsBeginAtThePresent(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	resp := r.follow(t.Context(), "?device=pump-2", "")
	defer func() { _ = resp.Body.Close() }()
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("content type %q", ct)
	}
	var got []string
	messages(t, resp, func(m sse) bool {
		got = append(got, m.event+" "+m.feed.ID)
		if m.event == "ready" {
			r.must("PATCH /v1/devices/pump-1", `{"labels":{"n":"1"}}`)
			r.must("PATCH /v1/devices/pump-2", `{"labels":{"n":"1"}}`)
		}
		return m.event != "device"
	})
	if fmt.Sprint(got) != "[ready  device pump-2]" {
		t.Errorf("got %q", got)
	}
	for query, want := range map[string]int{"?last_event_id=999999": 422, "?kind=none": 422, "?last_event_id=-1": 422} {
		if a := r.do("GET /v1/events"+query, ""); a.status != want {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
}

// TestEventsEndAtShutdown: open streams do not hold the server up.
func TestEventsEndAtShutdown(t *testing.T) {
	r := newAPI(t, nil)
	resp := r.follow(t.Context(), "", "")
	defer func() { _ = resp.Body.Close() }()
	start := time.Now()
	go r.stop()
	messages(t, resp, func(sse) bool { return true })
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the stream ended after %v", took)
	}
}

// TestTooManyStreams: whoever has three quarters of them is told to come back, and
// somebody else is not.
func TestTooManyStreams(t *testing.T) {
	r := idleAPI(t)
	ctx, cancel := context.WithCancel(t.Context())
	var open sync.WaitGroup
	request := func() *http.Request {
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/events", nil)
		req.Header.Set("Authorization", "Bearer "+adminToken)
		return req
	}
	const most = 384
	begun := make(chan struct{}, most+1)
	for range most {
		open.Go(func() {
			r.api.ServeHTTP(&notifying{ResponseRecorder: httptest.NewRecorder(), begun: begun}, request())
		})
	}
	for range most {
		<-begun
	}
	w := httptest.NewRecorder()
	r.api.ServeHTTP(w, request())
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if _, err := r.people.CreateUser(ctx, people.NewUser{Name: "bob", Role: people.RoleViewer}); err != nil {
		t.Fatal(err)
	}
	bob, err := r.people.CreateToken(ctx, "bob", people.NewToken{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	other := request()
	other.Header.Set("Authorization", "Bearer "+bob.Secret)
	open.Go(func() { r.api.ServeHTTP(&notifying{ResponseRecorder: httptest.NewRecorder(), begun: begun}, other) })
	<-begun
	cancel()
	open.Wait()
}

// notifying says when an answer begins.
type notifying struct {
	*httptest.ResponseRecorder
	begun chan struct{}
}

func (n *notifying) Write(b []byte) (int, error) {
	if n.begun != nil {
		n.begun <- struct{}{}
		n.begun = nil
	}
	return n.ResponseRecorder.Write(b)
}

// busyFeed is a service in which something changes all the time, none of which
// passes a filter; it counts how often it is asked.
type busyFeed struct {
	gateway.Service
	mu    sync.Mutex
	looks int
	busy  bool
}

func (f *busyFeed) LastRev(context.Context) (uint64, error) { return 7, nil }

func (f *busyFeed) Events(ctx context.Context, since uint64, filter orchestrator.FeedFilter, _ int, wait time.Duration) (orchestrator.Feed, error) {
	f.mu.Lock()
	f.looks++
	f.mu.Unlock()
	switch {
	case f.busy && len(filter.Kinds) == 0:
		return orchestrator.Feed{Rev: since + 1, Events: []orchestrator.FeedEvent{{Rev: since + 1, Kind: "device", ID: "d"}}}, nil
	case f.busy:
		return orchestrator.Feed{Rev: since + 1}, nil
	}
	select {
	case <-time.After(wait):
		return orchestrator.Feed{Rev: since}, nil
	case <-ctx.Done():
		return orchestrator.Feed{Rev: since}, ctx.Err()
	}
}

// TestEventsHeartbeat: half a minute of silence has a sign of life every 15 s, and such a
// while of changes costs at most two looks at the store every 200 ms.
func TestEventsHeartbeat(t *testing.T) {
	for name, c := range map[string]struct {
		busy  bool
		query string
		alive int // comments
		most  int // looks
		ids   int
	}{
		"silence":                   {false, "", 2, 6, 1},
		"silence with a filter":     {false, "?kind=job", 2, 10, 1},
		"changes":                   {true, "", 0, 157, 1},
		"changes that do not count": {true, "?kind=job", 0, 313, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				feed := &busyFeed{busy: c.busy}
				r := idleAPIOn(t, feed)
				ctx, cancel := context.WithTimeout(t.Context(), 31*time.Second)
				defer cancel()
				req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/events"+c.query, nil)
				req.Header.Set("Authorization", "Bearer "+adminToken)
				w := httptest.NewRecorder()
				r.api.ServeHTTP(w, req)
				body := w.Body.Bytes()
				if n := bytes.Count(body, []byte(": alive\n\n")); n != c.alive {
					t.Errorf("%d signs of life, want %d: %s", n, c.alive, body)
				}
				if n := bytes.Count(body, []byte("id: ")); n < c.ids {
					t.Errorf("%d ids, want at least %d: %s", n, c.ids, body)
				}
				if feed.looks > c.most || feed.looks < 4 {
					t.Errorf("%d looks at the store, at most %d are allowed", feed.looks, c.most)
				}
			})
		})
	}
}
