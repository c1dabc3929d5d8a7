package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"davit/gateway/people"
	"davit/internal/logevent"
	"davit/orchestrator"
)

// Pace of a stream of events.
const (
	// heartbeat is how long a stream is silent at most.
	heartbeat = 15 * time.Second
	// lookEvery is how often a stream looks at the store at most.
	lookEvery = 200 * time.Millisecond
	// eventBatch is how many events one look fetches at most.
	eventBatch = 500
)

// watchEvents is the operation that a stream carries out.
const watchEvents = "watch-events"

type eventsInput struct {
	Kind        []string `query:"kind,explode" maxItems:"16" enum:"image_type,device_type,image,device,group,job,execution" doc:"Only records of this kind; repeatable."`
	Job         string   `query:"job" maxLength:"64" doc:"Only this job and its executions."`
	Device      string   `query:"device" maxLength:"64" doc:"Only this device and its executions."`
	LastEventID string   `header:"Last-Event-ID" maxLength:"32" doc:"Goes on after this event, as browsers do by themselves; 0 begins with every record there is."`
	ResumeAfter string   `query:"last_event_id" maxLength:"32" doc:"The same for clients that cannot set the header, which comes first."`
}

// since is the revision to go on after; false to begin at the present.
func (in *eventsInput) since() (uint64, bool, error) {
	text, where := in.LastEventID, "header.Last-Event-ID"
	if text == "" {
		text, where = in.ResumeAfter, "query.last_event_id"
	}
	if text == "" {
		return 0, false, nil
	}
	rev, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, false, wrongParameter(where, text, "The id of an event is a number, as it stood in the stream.")
	}
	return rev, true, nil
}

func (a *API) eventRoutes(api huma.API) {
	route(a, api, "GET /v1/events", strings.ReplaceAll(watchEvents, "-", " "), a.events, func(op *huma.Operation) {
		api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[orchestrator.FeedEvent](), true, "") // the document explains it
		op.Responses = map[string]*huma.Response{"200": {
			Description: "A stream of events; data of each is a FeedEvent.",
			Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}}
	}, describe("Server-sent events: every record that changed, once, as it stands now. id is the revision of the change and grows from event to event, event is the kind of record, data a FeedEvent as JSON. "+
		"After a lost connection, Last-Event-ID goes on without a gap; records that changed several times meanwhile come once. Without it the stream begins at the present with an event \"ready\", whose id is where it begins. "+
		"A comment every 15 s shows that the stream lives. At most "+strconv.Itoa(maxStreams)+" streams are open at a time, three quarters of them by one user; more are answered with 429."))
}

// stream is one stream of events to one client.
type stream struct {
	service Service
	filter  orchestrator.FeedFilter
	rev     uint64 // everything up to it has been sent
	out     http.ResponseWriter
	flush   func() error
	buf     bytes.Buffer
}

func (a *API) events(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	since, resumed, err := in.since()
	if err != nil {
		return nil, err
	}
	s := &stream{service: a.options.Service, filter: orchestrator.FeedFilter{Kinds: in.Kind, Job: in.Job, Device: in.Device}, rev: since}
	if !resumed {
		if s.rev, err = s.service.LastRev(ctx); err != nil {
			return nil, err
		}
	}
	first, err := s.service.Events(ctx, s.rev, s.filter, eventBatch, 0)
	if err != nil {
		return nil, err
	}
	give, ok := a.streams.Take(ctx)
	if !ok {
		return nil, busy("Too many streams of events are open already, yours or all together; try again in a moment.")
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer give()
		_, s.out = humago.Unwrap(hc)
		s.flush = http.NewResponseController(s.out).Flush
		s.out.Header().Set("Content-Type", "text/event-stream")
		s.out.Header().Set("Cache-Control", "no-store")
		s.out.Header().Set("X-Accel-Buffering", "no") // else nginx holds events back
		waiting, cancel := untilDrain(ctx)
		defer cancel()
		err := s.run(waiting, first, !resumed)
		if waiting.Err() == nil && !errors.Is(err, errStreamGone) && !errors.Is(err, people.ErrNoSession) {
			a.options.Log.Warn("a stream of events broke off", "event", logevent.EventStreamBroken, "request", requestID(ctx), "error", err)
		}
	}}, nil
}

// errStreamGone wraps the error of a client that does not read any more.
var errStreamGone = errors.New("the client is gone")

// run sends events until ctx ends, or whoever follows them may not any more.
func (s *stream) run(ctx context.Context, feed orchestrator.Feed, ready bool) error {
	if ready {
		fmt.Fprintf(&s.buf, "event: ready\nid: %d\ndata: {\"rev\":%d}\n\n", s.rev, s.rev)
	} else {
		s.buf.WriteString(": davit\n\n") // shows a client at once that the stream has begun
	}
	for {
		looked := time.Now()
		if err := stillMay(ctx, watchEvents); err != nil {
			return err
		}
		if err := s.send(feed); err != nil {
			return err
		}
		if err := pause(ctx, time.Until(looked.Add(lookEvery))); err != nil {
			return err
		}
		var err error
		if feed, err = s.next(ctx); err != nil {
			return err
		}
	}
}

// next waits for events, at most until the next heartbeat. A stream with a
// filter first waits for a change of anything, so that changes which are not its
// own cost it no look at the store each.
func (s *stream) next(ctx context.Context) (orchestrator.Feed, error) {
	if len(s.filter.Kinds) == 0 && s.filter.Job == "" && s.filter.Device == "" {
		return s.service.Events(ctx, s.rev, s.filter, eventBatch, heartbeat)
	}
	beat := time.Now().Add(heartbeat)
	for {
		any, err := s.service.Events(ctx, s.rev, orchestrator.FeedFilter{}, 1, time.Until(beat))
		if err != nil || len(any.Events) == 0 {
			return orchestrator.Feed{Rev: any.Rev}, err
		}
		feed, err := s.service.Events(ctx, s.rev, s.filter, eventBatch, 0)
		if err != nil || len(feed.Events) > 0 || !time.Now().Before(beat) {
			return feed, err
		}
		s.rev = feed.Rev
		if err := pause(ctx, lookEvery); err != nil {
			return feed, err
		}
	}
}

// send writes what was found, or a sign of life. Each write has its deadline
// (middleware.go), so a client that does not read ends its own stream and holds up
// nobody.
func (s *stream) send(feed orchestrator.Feed) error {
	for _, ev := range feed.Events {
		b, err := json.Marshal(ev)
		if err != nil {
			return err
		}
		fmt.Fprintf(&s.buf, "id: %d\nevent: %s\ndata: %s\n\n", ev.Rev, ev.Kind, b)
	}
	last := len(feed.Events) - 1
	if feed.Rev > s.rev && (last < 0 || feed.Events[last].Rev < feed.Rev) {
		// Nothing up to here was the client's: should it come back, it need not look again.
		fmt.Fprintf(&s.buf, "id: %d\n\n", feed.Rev)
	}
	s.rev = max(s.rev, feed.Rev)
	if s.buf.Len() == 0 {
		s.buf.WriteString(": alive\n\n")
	}
	_, err := s.out.Write(s.buf.Bytes())
	s.buf.Reset()
	if err == nil {
		err = s.flush()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errStreamGone, err)
	}
	return nil
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
