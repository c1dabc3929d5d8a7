package bridge

import (
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"davit/internal/logevent"
	"davit/schemas"
)

// hello says who the device is; the service hears of a changed version or
// execution this way.
func (d *device) hello() {
	if !d.connected {
		return
	}
	d.helloDue = time.Now().Add(helloInterval(d.id))
	if d.drain.released {
		return // the farewell is all that is left to say
	}
	h := &schemas.Hello{
		V: schemas.Version, Module: d.b.cfg.Module, HostVersions: d.versions(), MaxChunk: d.b.cfg.MaxChunk, Streams: true,
	}
	if d.kind != nil {
		h.Dialect = d.kind.Name()
	}
	if open := d.rec.Open; open != nil {
		h.Execution, h.Attempt = open.Offer.Execution, open.Offer.Attempt
	}
	d.told = maps.Clone(h.HostVersions)
	for len(h.HostVersions) > 0 && !fits(h) {
		delete(h.HostVersions, longest(h.HostVersions))
	}
	d.b.publish(d, h, d.helloTrace())
}

// helloInterval is how often a device repeats its hello: each at a pace of its
// own, so that a rack does not speak in step.
func helloInterval(device string) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(device)) // never fails
	const fifth = helloEvery / 5
	return helloEvery - fifth + time.Duration(h.Sum64()%uint64(2*fifth))
}

// versions is what a hello says of the host MCU: an empty version where none
// can be vouched for any more.
func (d *device) versions() map[string]string {
	out := maps.Clone(d.rec.Versions)
	for property := range out {
		if !d.believed[property] {
			out[property] = ""
		}
	}
	return out
}

// fits says whether the message may be sent: many long names and versions,
// each allowed by itself, can be too much.
func fits(h *schemas.Hello) bool {
	_, err := schemas.Encode(h)
	return err == nil
}

// longest is the property that takes the most room.
func longest(versions map[string]string) string {
	var worst string
	for p := range versions {
		if worst == "" || len(p)+len(versions[p]) > len(worst)+len(versions[worst]) {
			worst = p
		}
	}
	return worst
}

// version takes a version that the MCU reports.
func (d *device) version(property, version string) {
	changed := d.rec.report(property, version)
	if d.rec.Versions[property] != version {
		return // more properties than are kept
	}
	d.believed[property] = true
	if !changed && d.told[property] == version {
		return
	}
	if d.newsDue.IsZero() {
		d.newsDue = later(time.Now(), d.newsAt.Add(d.newsWait))
	}
}

// tellNews records and tells what the MCU has reported.
func (d *device) tellNews(now time.Time) {
	if d.newsWait = min(2*d.newsWait, versionsRarely); now.Sub(d.newsAt) > 2*versionsRarely {
		d.newsWait = versionsEvery
	}
	d.newsAt, d.newsDue = now, time.Time{}
	d.log.Info("host versions", "event", logevent.HostVersions, "versions", d.rec.Versions)
	_ = d.save() // logged; the MCU is asked again after a restart
	if !maps.Equal(d.told, d.versions()) {
		d.hello()
	}
}

// disbelieve takes note that the MCU may not run any more what it reported. It
// is asked again; if it does not answer, the service is told so.
func (d *device) disbelieve() {
	if len(d.believed) == 0 {
		return
	}
	clear(d.believed)
	if at := time.Now().Add(versionPause); at.Before(d.helloDue) {
		d.helloDue = at
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// properties are the version properties to ask the MCU for.
func (d *device) properties() []string {
	var out []string
	if d.port.VersionProperty != "" {
		out = append(out, d.port.VersionProperty)
	}
	for _, p := range d.rec.Properties {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
