package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"davit/orchestrator"
)

// Event is one record that changed, as it stands now.
type Event struct {
	Rev     uint64 `json:"rev"`
	Kind    string `json:"kind"`
	ID      string `json:"id"`
	Deleted bool   `json:"deleted,omitempty"`
	// Record is the record as its own request answers it, nil if it is deleted.
	Record json.RawMessage `json:"record,omitempty"`
}

// Follow says what Events follows.
type Follow struct {
	orchestrator.FeedFilter
	// Since is the revision after which it begins, 0 being before everything;
	// nil begins at the present.
	Since *uint64
	// Event receives what happens; an error of its ends the following.
	Event func(Event) error
	// Lost, if it is not nil, hears that the connection was lost and that another
	// is tried.
	Lost func(error)
}

// The pace of trying again, and how long the service may be silent; it says
// something every 15 s.
const (
	firstPause  = 200 * time.Millisecond
	longPause   = 5 * time.Second
	streamQuiet = 45 * time.Second
)

// errQuiet ends a connection on which nothing comes any more.
var errQuiet = errors.New("the service has said nothing for too long")

// Events follows what changes until the context ends. A connection that is
// lost is made again and goes on where the last one ended, without a gap. It
// returns an error if the first connection fails, if the service refuses, or one
// of f.Event's.
func (c *Client) Events(ctx context.Context, f Follow) error {
	s := &stream{client: c, follow: f}
	if f.Since != nil {
		s.last = strconv.FormatUint(*f.Since, 10)
	}
	pause := firstPause
	for {
		err := s.once(ctx)
		var refused *Error
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.stopped, !s.begun, errors.As(err, &refused) && refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests:
			return err
		}
		if s.progressed {
			pause = firstPause
		}
		if f.Lost != nil {
			f.Lost(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, longPause)
	}
}

// stream is a stream of server-sent events over one connection after another.
type stream struct {
	client     *Client
	follow     Follow
	last       string // id of the last event
	begun      bool   // a connection has worked
	progressed bool   // the last one did
	stopped    bool   // follow.Event wants no more
}

// once follows over one connection until it ends.
func (s *stream) once(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.progressed = false
	header := http.Header{}
	if s.last != "" {
		header.Set("Last-Event-ID", s.last)
	}
	query := set(url.Values{}, "job", s.follow.Job, "device", s.follow.Device)
	for _, k := range s.follow.Kinds {
		query.Add("kind", k)
	}
	resp, err := s.client.send(ctx, request{method: http.MethodGet, path: []string{"events"}, query: query, header: header})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	s.begun, s.progressed = true, true
	quiet := time.AfterFunc(streamQuiet, func() { cancel(errQuiet) })
	defer quiet.Stop()
	err = s.read(resp.Body, func() { quiet.Reset(streamQuiet) })
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// read takes the events of a connection; heard is called for every line.
func (s *stream) read(r io.Reader, heard func()) error {
	lines := bufio.NewReader(r)
	var id, kind string
	var data strings.Builder
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the service ended the connection")
			}
			return err
		}
		heard()
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "\n" || line == "\r\n":
			if err := s.event(id, kind, data.String()); err != nil {
				return err
			}
			id, kind = "", ""
			data.Reset()
		case name == "id":
			id = value
		case name == "event":
			kind = value
		case name == "data":
			if data.Len()+len(value) > answerLimit {
				return fmt.Errorf("an event of more than %d bytes", answerLimit)
			}
			data.WriteString(value)
		}
	}
}

// event passes on one event and remembers it as the last.
func (s *stream) event(id, kind, data string) error {
	// "ready" only says where the stream begins.
	if data != "" && kind != "ready" {
		var e Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			s.stopped = true
			return fmt.Errorf("an event of %s is not understood: %w", s.client.base, err)
		}
		if err := s.follow.Event(e); err != nil {
			s.stopped = true
			return err
		}
	}
	if id != "" {
		s.last = id
	}
	return nil
}
