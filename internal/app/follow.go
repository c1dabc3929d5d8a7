package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"davit/internal/filestamp"
	"davit/internal/logevent"
)

// followEvery is how often files are looked at for changes.
const followEvery = 2 * time.Second

// followed are files that a running Server reads again when one of them has changed.
type followed struct {
	what  string // as logs and metrics name it
	files []string
	load  func() error // puts in force what the files say, or changes nothing and says why

	stamps []filestamp.Stamp
}

// follower looks after files. It is for one goroutine.
type follower struct {
	log      *slog.Logger
	all      []*followed
	reloads  *prometheus.CounterVec
	usable   *prometheus.GaugeVec
	interval time.Duration
}

func newFollower(log *slog.Logger, r prometheus.Registerer) *follower {
	f := &follower{
		log: log, interval: followEvery,
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "davit_file_reloads_total",
			Help: "How often files that had changed were read again, by what they are and whether they could be used.",
		}, []string{"files", "result"}),
		usable: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "davit_file_reload_successful",
			Help: "1 if what the files say is in force, 0 if they changed and cannot be used, so that what they said before is.",
		}, []string{"files"}),
	}
	r.MustRegister(f.reloads, f.usable)
	return f
}

// add follows files. Those of what has been loaded already are given with how they looked
// before that.
func (f *follower) add(what string, files []string, before []filestamp.Stamp, load func() error) {
	f.all = append(f.all, &followed{what: what, files: files, load: load, stamps: before})
	f.usable.WithLabelValues(what).Set(1)
	for _, result := range []string{"ok", "failed"} {
		f.reloads.WithLabelValues(what, result)
	}
}

// run looks at the files until ctx ends.
func (f *follower) run(ctx context.Context) error {
	if len(f.all) == 0 {
		return nil
	}
	tick := time.NewTicker(f.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			f.look()
		}
	}
}

// look reads what has changed.
func (f *follower) look() {
	for _, w := range f.all {
		now := filestamp.All(w.files)
		changed := false
		for i := range now {
			changed = changed || !now[i].Same(w.stamps[i])
		}
		if !changed {
			continue
		}
		w.stamps = now
		err := w.load()
		log := f.log.With("files", w.what)
		if err != nil {
			f.reloads.WithLabelValues(w.what, "failed").Inc()
			f.usable.WithLabelValues(w.what).Set(0)
			log.Error("files have changed and cannot be used; what they said before stays in force", "event", logevent.FilesUnusable, "error", err)
			continue
		}
		f.reloads.WithLabelValues(w.what, "ok").Inc()
		f.usable.WithLabelValues(w.what).Set(1)
		log.Info("files have changed and were read again", "event", logevent.FilesReread)
	}
}
