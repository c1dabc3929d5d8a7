package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"davit/bridge/portname"
	"davit/bridge/recording"
	"davit/bridge/serialport"
	"davit/bridge/sniff"
)

// Tap is a port at which one side of a line is heard.
type Tap struct {
	// Port is a path or a name (package portname), which is looked up anew at
	// every opening.
	Port string
	// From is the side that is heard there.
	From recording.Side
}

// Config says what to listen to.
type Config struct {
	Taps    []Tap
	Dialect string
	Line    serialport.Settings // without flow control
	// Once ends with an error when a port is missing or gone.
	Once bool
	// Record, if set, keeps what is heard.
	Record *recording.Writer
	// Packet is told of each packet as soon as it is whole, with the time since
	// Start. An error ends Run, which returns it.
	Packet func(sniff.Packet) error
	// Notice is told in a sentence what becomes of the ports. Its calls and those of
	// Packet never overlap.
	Notice func(text string)
	// Start is when times begin.
	Start time.Time
	// Open opens a port to be read; nil means Open.
	Open func(port string, s serialport.Settings) (io.ReadCloser, error)
}

// Waits between attempts to open a port.
const (
	firstReopen = 250 * time.Millisecond
	lastReopen  = 2 * time.Second
)

// readSize is how much is taken from a port at once.
const readSize = 1024

// ahead is how many pieces may wait to be told of.
const ahead = 64

// Open opens a real serial port or pseudo-terminal to be read, after it has looked
// up which one the name means now.
func Open(port string, s serialport.Settings) (io.ReadCloser, error) {
	name, err := portname.Parse(port)
	if err != nil {
		return nil, fmt.Errorf("port %q: %w", port, err)
	}
	path, err := portname.Machine().Resolve(name)
	if err != nil {
		return nil, err
	}
	p, err := serialport.Listen(path, s)
	if errors.Is(err, serialport.ErrInUse) {
		err = fmt.Errorf("%w; what passes on a port of a bridge is recorded by that: davit bridge --record", err)
	}
	if err != nil {
		return nil, err // not p: a nil *Port is not a nil interface
	}
	return p, nil
}

// heard is what comes from a port: bytes, or news of the port itself.
type heard struct {
	at     time.Duration
	from   recording.Side
	bytes  []byte
	notice string
	gone   bool // what was under way is over
}

// listener is one Run.
type listener struct {
	Config
	line sniff.Decoder
	news chan heard
	last time.Duration
}

// Run listens until ctx ends, and then returns nil. Its errors are those of Packet
// and of writing the recording, and that a port cannot be opened for a reason that
// waiting does not mend, or at all if Once is set.
func Run(ctx context.Context, cfg Config) error {
	line, err := sniff.New(cfg.Dialect, cfg.Line.Baud)
	if err != nil {
		return err
	}
	if cfg.Open == nil {
		cfg.Open = Open
	}
	l := &listener{Config: cfg, line: line, news: make(chan heard, ahead)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, taps := errgroup.WithContext(ctx)
	for _, t := range cfg.Taps {
		g.Go(func() error { return l.listen(taps, t) })
	}
	ended := make(chan error, 1)
	go func() {
		err := g.Wait()
		close(l.news)
		ended <- err
	}()
	var failed error
	for h := range l.news {
		if failed == nil {
			if failed = l.tell(h); failed != nil {
				cancel()
			}
		}
	}
	if err := <-ended; failed == nil {
		failed = err
	}
	return failed
}

// tell takes the next piece.
func (l *listener) tell(h heard) (err error) {
	if h.notice != "" {
		l.Notice(h.notice)
	}
	l.last = max(l.last, h.at) // two ports are read by two goroutines
	emit := func(p sniff.Packet) {
		if err == nil {
			err = l.Packet(p)
		}
	}
	if h.gone {
		l.line.Break(l.last, emit)
	}
	if len(h.bytes) == 0 || err != nil {
		return err
	}
	if l.Record != nil {
		switch e := l.Record.Note(l.last, h.from, h.bytes); {
		case errors.Is(e, recording.ErrFull):
			l.Notice(e.Error() + " and has ended")
			l.Record = nil
		case e != nil:
			return fmt.Errorf("keep what is heard: %w", e)
		}
	}
	l.line.Decode(l.last, h.from, h.bytes, emit)
	return err
}

// listen opens a port and reads it until ctx ends, again and again if need be.
func (l *listener) listen(ctx context.Context, t Tap) error {
	wait, was, complaint := firstReopen, false, ""
	for {
		port, err := l.Open(t.Port, l.Line)
		switch {
		case err == nil:
			was, wait, complaint = true, firstReopen, ""
			err = l.read(ctx, port, t)
		case l.Once, !was && !errors.Is(err, serialport.ErrMissing):
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if l.Once {
			return err
		}
		if err.Error() != complaint {
			complaint = err.Error()
			l.say(ctx, heard{at: time.Since(l.Start), notice: complaint + "; waiting for it", gone: true})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, lastReopen)
	}
}

// read reads an open port until it fails or ctx ends, and closes it.
func (l *listener) read(ctx context.Context, port io.ReadCloser, t Tap) error {
	stop := context.AfterFunc(ctx, func() { _ = port.Close() })
	defer func() {
		if stop() {
			_ = port.Close()
		}
	}()
	l.say(ctx, heard{at: time.Since(l.Start), notice: fmt.Sprintf("listening to the %v at %s", t.From, where(port, t.Port))})
	for {
		b := make([]byte, readSize)
		n, err := port.Read(b)
		if n > 0 {
			l.say(ctx, heard{at: time.Since(l.Start), from: t.From, bytes: b[:n]})
		}
		if err != nil {
			return err
		}
	}
}

// where is the path that a port was opened by, beside a name that is none.
func where(port any, name string) string {
	if p, ok := port.(interface{ Path() string }); ok && p.Path() != name {
		return fmt.Sprintf("%s (%s)", name, p.Path())
	}
	return name
}

func (l *listener) say(ctx context.Context, h heard) {
	select {
	case l.news <- h:
	case <-ctx.Done():
	}
}
