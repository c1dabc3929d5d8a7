package logevent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
)

// A Part is a part of the program whose level can be set on its own: the value
// of KeyPart, which its logger carries.
type Part string

// Parts of the service.
const (
	PartBroker       Part = "broker"       // the embedded MQTT broker
	PartClaims       Part = "claims"       // modules that become devices
	PartConsole      Part = "console"      // the web console
	PartFiles        Part = "files"        // files that are read again when they change
	PartHTTP         Part = "http"         // the HTTP API
	PartOrchestrator Part = "orchestrator" // images, jobs and executions
	PartPeople       Part = "people"       // signing in
	PartPprof        Part = "pprof"        // the listener of profiles
	PartRotations    Part = "rotations"    // changes of devices' passwords
	PartSessions     Part = "sessions"     // messages of devices
	PartTraces       Part = "traces"       // export of spans, of the bridge too
)

// Parts of the bridge.
const (
	PartMetrics Part = "metrics" // the listener of metrics
	PartMQTT    Part = "mqtt"    // the connection to the broker
	PartPorts   Part = "ports"   // serial ports and their devices
	PartSpool   Part = "spool"   // fetching images
	PartStatus  Part = "status"  // the socket of davit bridge status
)

// ServiceParts are the parts of the service.
func ServiceParts() []Part {
	return []Part{PartBroker, PartClaims, PartConsole, PartFiles, PartHTTP, PartOrchestrator, PartPeople, PartPprof, PartRotations, PartSessions, PartTraces}
}

// BridgeParts are the parts of the bridge.
func BridgeParts() []Part {
	return []Part{PartMetrics, PartMQTT, PartPorts, PartSpool, PartStatus, PartTraces}
}

// Levels says which records are written. It is shared by all loggers of a
// process and may be changed while they are used.
type Levels struct {
	known []Part
	now   atomic.Pointer[setting]
}

// setting is never changed once it is in force.
type setting struct {
	base  slog.Level
	parts map[Part]slog.Level
}

// NewLevels reads spec, for a process that has these parts.
func NewLevels(spec string, parts []Part) (*Levels, error) {
	l := &Levels{known: parts}
	return l, l.Set(spec)
}

// Set puts spec into force: a level, and parts that have another one, as in
// "info,broker=debug". Without a level of its own a part has the first one, which
// is info where it is left out. If spec is wrong, what was in force stays.
func (l *Levels) Set(spec string) error {
	s := setting{base: slog.LevelInfo, parts: map[Part]slog.Level{}}
	for i, word := range strings.Split(spec, ",") {
		word = strings.TrimSpace(word)
		name, level, named := strings.Cut(word, "=")
		if !named {
			if i > 0 {
				return fmt.Errorf("log level %.100q: %.40q is not PART=LEVEL; only the first may be a level alone, as in info,broker=debug", spec, word)
			}
			level = word
		}
		parsed, err := parseLevel(level)
		if err != nil {
			return err
		}
		if !named {
			s.base = parsed
			continue
		}
		part := Part(name)
		if !slices.Contains(l.known, part) {
			return fmt.Errorf("log level %.100q: there is no part %.40q here; there are %s", spec, name, l.names())
		}
		if _, twice := s.parts[part]; twice {
			return fmt.Errorf("log level %.100q: the part %s stands there twice", spec, part)
		}
		s.parts[part] = parsed
	}
	l.now.Store(&s)
	return nil
}

// parseLevel takes the four names only: slog's own would take "info+2" as well.
func parseLevel(name string) (slog.Level, error) {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(name, l.String()) {
			return l, nil
		}
	}
	return 0, fmt.Errorf("log level %.40q is not debug, info, warn or error", name)
}

func (l *Levels) names() string {
	var all []string
	for _, p := range l.known {
		all = append(all, string(p))
	}
	return strings.Join(all, ", ")
}

// String is what is in force, in the form that Set takes, parts in the order of
// their names.
func (l *Levels) String() string {
	s := l.now.Load()
	text := strings.ToLower(s.base.String())
	for _, p := range slices.Sorted(maps.Keys(s.parts)) {
		text += "," + string(p) + "=" + strings.ToLower(s.parts[p].String())
	}
	return text
}

// Parts are the parts that a level can be set for.
func (l *Levels) Parts() []Part { return slices.Clone(l.known) }

// Handler lets through to next what the levels allow. next itself has to take
// every level.
func (l *Levels) Handler(next slog.Handler) slog.Handler { return leveled{next, l, ""} }

type leveled struct {
	slog.Handler
	levels *Levels
	part   Part
}

// Enabled is asked for every record that is not written, so it takes no lock.
func (h leveled) Enabled(_ context.Context, level slog.Level) bool {
	s := h.levels.now.Load()
	if own, ok := s.parts[h.part]; ok {
		return level >= own
	}
	return level >= s.base
}

func (h leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.Handler = h.Handler.WithAttrs(attrs)
	for _, a := range attrs {
		if a.Key == KeyPart {
			h.part = Part(a.Value.String())
		}
	}
	return h
}

func (h leveled) WithGroup(name string) slog.Handler {
	h.Handler = h.Handler.WithGroup(name)
	return h
}

// LevelsOf finds the levels that a logger goes by: nil if its handler is not one
// that Levels.Handler has made.
func LevelsOf(log *slog.Logger) *Levels {
	if h, ok := log.Handler().(leveled); ok {
		return h.levels
	}
	return nil
}
