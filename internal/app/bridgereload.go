package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"davit/bridge"
	"davit/internal/app/yamlfile"
	"davit/internal/logevent"
)

// Reload reads the configuration file anew and puts in force what can change
// while the bridge runs, as bridge.Reconfigure does; the log says what that was, and
// which settings wait for the next start. A file that is no good is logged with the
// line and the field of each mistake and changes nothing. It waits for Run to begin
// until ctx ends.
func (b *Bridge) Reload(ctx context.Context) {
	if b.flags.Config == "" {
		b.log.Warn("no configuration file; nothing to reload (davit bridge --config FILE has one)", "event", logevent.ReloadImpossible)
		return
	}
	log := b.log.With("file", b.flags.Config)
	o, err := b.flags.WithFile()
	if err == nil {
		err = o.Validate()
	}
	var trusted bridge.Trust
	if err == nil {
		trusted, err = o.trusted()
	}
	var changes bridge.Changes
	if err == nil {
		changes, err = b.bridge.Reconfigure(ctx, bridge.Settings{Ports: o.Ports, OfferInterval: o.OfferInterval, RecordDir: o.Record, Trust: trusted})
	}
	if err != nil {
		b.complain(err)
		return
	}
	log.Info("configuration reloaded", append([]any{"event", logevent.ConfigReloaded}, summary(changes)...)...)
	var later []string
	now := b.options.fixed()
	for i, s := range o.fixed() {
		if s[1] != now[i][1] {
			later = append(later, s[0])
		}
	}
	if len(later) > 0 {
		log.Warn("these settings take effect at the next start", "event", logevent.ConfigLater, "fields", later)
	}
}

// summary is what a reload did, for the log: the lists that are not empty.
func summary(c bridge.Changes) []any {
	var attrs []any
	all := []any{"kept", c.Kept, "added", c.Added, "removed", c.Removed, "changed", c.Changed, "waiting", c.Waiting}
	for pair := range slices.Chunk(all, 2) {
		if devices, ok := pair[1].([]string); ok && len(devices) > 0 {
			attrs = append(attrs, pair...)
		}
	}
	return attrs
}

// complain logs why the file is not taken.
func (b *Bridge) complain(err error) {
	const what = "the configuration file is not taken; the bridge goes on as it was"
	log := b.log.With("file", b.flags.Config)
	var bad *yamlfile.Error
	if !errors.As(err, &bad) {
		log.Error(what, "event", logevent.ConfigRefused, "error", err)
		return
	}
	for _, p := range bad.Problems {
		var where []any // what is wrong with the file as a whole has neither
		if p.Line > 0 {
			where = append(where, slog.Int("line", p.Line))
		}
		if p.Field != "" {
			where = append(where, slog.String("field", p.Field))
		}
		log.Error(what, append(where, "event", logevent.ConfigRefused, "error", p.String())...)
	}
}
