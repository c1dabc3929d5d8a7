package replay_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"davit/bridge/dialect"
	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/bridge/dialect/dialecttest"
	"davit/bridge/replay"
	"davit/internal/sim"
	"davit/schemas"
)

// TestWhateverHappenedAgrees: sessions on lines with noise whose MCU loses its
// power, and which were told of the update at any time and had its image later
// still, come out the same, retries included; and without those on a machine that
// notes what passes a little late.
func TestWhateverHappenedAgrees(t *testing.T) {
	for seed := range uint64(8) {
		noise := sim.LineFaults{BitErrorRate: 0.0002 * float64(seed%5), DropRate: 0.0002 * float64(seed%3)}
		for _, s := range []dialecttest.Setup{
			{
				Dialect: ayla.Dialect{}, MCU: func() sim.Host { return sim.NewMCU(sim.MCUConfig{}) },
				Line: sim.LineConfig{Seed: seed, ToMCU: noise, FromMCU: noise},
			},
			{
				Dialect: afero.Dialect{}, Config: dialect.Config{VersionProperties: []string{"2101"}},
				MCU:    func() sim.Host { return sim.NewAferoMCU(sim.AferoConfig{VersionID: 6, AttributeSize: 68}) },
				Line:   sim.LineConfig{Baud: 9600, BitsPerByte: 10, NoFlowControl: true, Seed: seed, ToMCU: noise, FromMCU: noise},
				Update: dialect.Update{VersionID: 7, NumericType: 101, AttributeSize: 68, VersionProperty: "2101"},
			},
		} {
			s.Size, s.Seed, s.Reports = 800, seed, dialecttest.NewVersion
			if s.Update.VersionID > 0 {
				s.Reports = "7"
			}
			t.Run(fmt.Sprintf("%s-%d", s.Dialect.Name(), seed), func(t *testing.T) {
				b := dialecttest.Record(t, s, func(r *dialecttest.Rig) { happens(r, seed) })
				wantAgreement(t, b, replay.Options{Strict: true})
				h, all := taken(t, b)
				wantAgreement(t, put(t, h, jittered(all, seed)), replay.Options{})
			})
		}
	}
}

// TestResumedUpdatesAgree: the port went away when the MCU was told to boot, and
// with the new session the bridge asks first what runs.
func TestResumedUpdatesAgree(t *testing.T) {
	for name, s := range map[string]dialecttest.Setup{
		"ayla": {Dialect: ayla.Dialect{}, MCU: func() sim.Host { return sim.NewMCU(sim.MCUConfig{}) }, Reports: dialecttest.NewVersion},
		"afero": {
			Dialect: afero.Dialect{}, Config: dialect.Config{VersionProperties: []string{"2101"}},
			MCU:    func() sim.Host { return sim.NewAferoMCU(sim.AferoConfig{VersionID: 6, AttributeSize: 68}) },
			Line:   sim.LineConfig{Baud: 9600, BitsPerByte: 10, NoFlowControl: true},
			Update: dialect.Update{VersionID: 7, NumericType: 101, AttributeSize: 68, VersionProperty: "2101"}, Reports: "7",
		},
	} {
		s.Size, s.Seed = 500, 1
		t.Run(name, func(t *testing.T) {
			b := dialecttest.Record(t, s, func(r *dialecttest.Rig) {
				r.PowerOff()
				u := r.Update
				u.ResumeAt = schemas.StateBooting
				r.Session.Start(u)
				time.Sleep(13 * time.Second)
				r.PowerOn()
				r.WantEnd(schemas.StateSucceeded, "") // the old version runs, so it is offered again
			})
			wantAgreement(t, b, replay.Options{Strict: true})
			wantAgreement(t, b, replay.Options{})
		})
	}
}

// TestLoadSizeOfThePort: a port with load-size agrees once the replay is told of it.
func TestLoadSizeOfThePort(t *testing.T) {
	const size = 128
	s := dialecttest.Setup{
		Dialect: ayla.Dialect{}, MCU: func() sim.Host { return sim.NewMCU(sim.MCUConfig{}) }, Config: dialect.Config{LoadSize: size},
		Size: 800, Seed: 1, Reports: dialecttest.NewVersion,
	}
	b := dialecttest.Record(t, s, func(r *dialecttest.Rig) {
		r.Session.Start(r.Update)
		r.WantEnd(schemas.StateSucceeded, "")
	})
	wantAgreement(t, b, replay.Options{Strict: true, LoadSize: size})
	r, err := run(b, replay.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Difference == nil {
		t.Error("without it the replay agrees, too")
	}
}

func wantAgreement(t *testing.T, b []byte, o replay.Options) {
	t.Helper()
	r, err := run(b, o)
	if err != nil {
		t.Fatal(err)
	}
	if d := r.Difference; d != nil {
		t.Errorf("strict %v: frame %d, %d of %d agree: %s; recorded %+v, replayed %+v", o.Strict, d.Frame, r.Frames, r.Total, d.Why, d.Recorded, d.Replayed)
	}
}

// jittered is a recording whose bytes were noted up to 3 ms late, as on a machine
// that is busy.
func jittered(all []piece, seed uint64) []piece {
	random := rand.New(rand.NewPCG(seed, seed))
	var last time.Duration
	for i := range all {
		last = max(last, all[i].at+time.Duration(random.Int64N(int64(3*time.Millisecond))))
		all[i].at = last
	}
	return all
}

// happens carries out an update that is disturbed in one of many ways.
func happens(r *dialecttest.Rig, seed uint64) {
	if seed%4 > 1 {
		time.Sleep(time.Duration(seed*seed) * 3333 * time.Millisecond) // virtual, as all here
	}
	u := r.Update
	if wait := time.Duration(seed%4) * 7 * time.Second; wait > 0 {
		ready := make(chan struct{})
		u.Ready = ready
		time.AfterFunc(wait, func() { close(ready) })
	}
	u.Force = seed%6 == 5
	r.Session.Start(u)
	if seed%2 == 1 {
		for limit := time.Now().Add(time.Hour); r.Loaded() < 400 && time.Now().Before(limit); {
			time.Sleep(10 * time.Millisecond)
		}
		r.PowerOff()
		time.Sleep(time.Duration(seed) * 100 * time.Millisecond)
		r.PowerOn()
	}
	r.Result()
	time.Sleep(time.Duration(seed) * time.Minute)
}
