package orchestrator_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// chain uploads the images 1.5, for any version, and 2, for 1.5 only.
func (e *env) chain() (via, goal orchestrator.Image) {
	e.t.Helper()
	via = e.image("1.5", content(100, 1))
	goal = e.image("2", content(300, 2), func(n *orchestrator.NewImage) { n.MinVersion = "1.5" })
	return via, goal
}

func TestRolloutAgainstTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.checkClean()
		ids := e.plant() // d000 to d005, groups first (d000, d001) and berlin (even ones), v000
		must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "valves", Devices: []string{"v000"}}))
		via, goal := e.chain()
		archived := e.image("1.6", content(10, 3))
		must[orchestrator.Image](t)(e.UpdateImage(ctx, archived.ID, orchestrator.ImagePatch{Archived: ptr(true)}))
		must[orchestrator.ImageType](t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: "boot"}))
		must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "tank", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "boot"}, {ID: "app", VersionProperty: "other"}}}))
		other := e.image("1.5", content(10, 4), func(n *orchestrator.NewImage) { n.ImageType, n.DeviceTypes = "boot", []string{"tank"} })
		tank := e.image("1.7", content(10, 5), func(n *orchestrator.NewImage) { n.DeviceTypes = []string{"tank"} })
		back := e.image("1.4", content(10, 6), func(n *orchestrator.NewImage) { n.MinVersion = "2" })
		now := time.Now()
		in := func(d time.Duration) string {
			return fmt.Sprintf("%d %d * * *", now.Add(d).UTC().Minute(), now.Add(d).UTC().Hour())
		}
		windows := func(cron, zone string) []orchestrator.Window {
			return []orchestrator.Window{{Cron: cron, Duration: orchestrator.Duration(time.Minute), Zone: zone}}
		}
		for i, c := range []struct {
			field, words string
			kind         error
			r            orchestrator.Rollout
		}{
			{"", "", nil, orchestrator.Rollout{Waves: []orchestrator.Wave{{Devices: ids[:1]}, {Group: "berlin"}, {Count: 3}}}},
			{"waves/1/devices/1", "not among the job's", orchestrator.ErrInvalid, orchestrator.Rollout{Waves: []orchestrator.Wave{{Count: 1}, {Devices: []string{"d003", "v000"}}}}},
			{"waves/0/group", `group "none"`, orchestrator.ErrNotFound, orchestrator.Rollout{Waves: []orchestrator.Wave{{Group: "none"}}}},
			{"waves/0/group", "none of the job's devices", orchestrator.ErrInvalid, orchestrator.Rollout{Waves: []orchestrator.Wave{{Group: "valves"}}}},
			{"", "", nil, orchestrator.Rollout{Continuous: true, Waves: []orchestrator.Wave{{Group: "valves"}}}},
			{"waves/1/count", "wave 2 asks for 5 devices, and only 4 are left", orchestrator.ErrInvalid, orchestrator.Rollout{Waves: []orchestrator.Wave{{Group: "first"}, {Count: 5}}}},
			{"pace/groups/0/group", `group "none"`, orchestrator.ErrNotFound, orchestrator.Rollout{Pace: &orchestrator.Pace{Groups: []orchestrator.GroupPace{{Group: "none", PerMinute: 1}}}}},
			{"", "", nil, orchestrator.Rollout{Via: []string{via.ID}}},
			{"via/0", "image \"img-none\"", orchestrator.ErrNotFound, orchestrator.Rollout{Via: []string{"img-none"}}},
			{"via/0", "leads to", orchestrator.ErrInvalid, orchestrator.Rollout{Via: []string{goal.ID}}},
			{"via/0", "archived", orchestrator.ErrInvalid, orchestrator.Rollout{Via: []string{archived.ID}}},
			{"via/0", "of image type boot", orchestrator.ErrInvalid, orchestrator.Rollout{Via: []string{other.ID}}},
			{"via/0", "not for device type pump", orchestrator.ErrInvalid, orchestrator.Rollout{Via: []string{tank.ID}}},
			{"via/1", "never be used", orchestrator.ErrInvalid, orchestrator.Rollout{Via: []string{via.ID, back.ID}}},
			{"stop/0/roll_back", "archived", orchestrator.ErrInvalid, orchestrator.Rollout{Stop: []orchestrator.StopRule{{Count: 1, Action: "abort", RollBack: archived.ID}}}},
			{"stop/0/roll_back", "no device would be brought back", orchestrator.ErrInvalid, orchestrator.Rollout{Stop: []orchestrator.StopRule{{Count: 1, Action: "abort", RollBack: goal.ID}}}},
			{"", "", nil, orchestrator.Rollout{Stop: []orchestrator.StopRule{{Count: 6, Action: "abort", RollBack: via.ID}}}},
			{"stop/0/count", "7 devices can never have failed: the job has 6", orchestrator.ErrInvalid, orchestrator.Rollout{Stop: []orchestrator.StopRule{{Count: 7}}}},
			{"stop/0/min_sample", "7 devices can never have come to an end", orchestrator.ErrInvalid, orchestrator.Rollout{Stop: []orchestrator.StopRule{{Percent: 1, MinSample: 7}}}},
			{"", "", nil, orchestrator.Rollout{Continuous: true, Stop: []orchestrator.StopRule{{Count: 7}}}},
			{"stop/0/count", "the largest wave has 3", orchestrator.ErrInvalid,
				orchestrator.Rollout{Waves: []orchestrator.Wave{{Count: 3}}, Stop: []orchestrator.StopRule{{Count: 4, Over: "wave"}}}},
			{"", "", nil, orchestrator.Rollout{Waves: []orchestrator.Wave{{Count: 2}}, Stop: []orchestrator.StopRule{{Count: 4, Over: "wave"}}}},
			{"schedule/end", "is over", orchestrator.ErrInvalid, orchestrator.Rollout{Schedule: &orchestrator.Schedule{End: now.Add(-time.Second)}}},
			{"", "", nil, orchestrator.Rollout{Schedule: &orchestrator.Schedule{End: now.Add(2 * time.Hour), Windows: windows(in(time.Hour), "")}}},
			{"schedule/windows", "none of them opens between", orchestrator.ErrInvalid, orchestrator.Rollout{Schedule: &orchestrator.Schedule{End: now.Add(time.Hour), Windows: windows(in(2*time.Hour), "")}}},
			{"schedule/windows", "none of them opens between", orchestrator.ErrInvalid,
				orchestrator.Rollout{Schedule: &orchestrator.Schedule{Start: now.Add(2 * time.Hour), End: now.Add(3 * time.Hour), Windows: windows(in(time.Hour), "")}}},
			{"", "", nil, orchestrator.Rollout{Schedule: &orchestrator.Schedule{End: now.Add(time.Hour), DeviceZone: "zone", Windows: windows(in(2*time.Hour), "")}}},
		} {
			r := c.r
			n := orchestrator.NewJob{Name: fmt.Sprintf("j%d", i), Image: goal.ID, Devices: ids, Rollout: &r}
			_, err := e.CreateJob(ctx, n)
			_, shown := e.PreviewJob(ctx, n)
			if c.field == "" {
				if err != nil || shown != nil {
					t.Errorf("%+v: %v, %v", r, err, shown)
				}
				continue
			}
			for _, err := range []error{err, shown} {
				var f *orchestrator.FieldError
				if !errors.As(err, &f) || !errors.Is(err, c.kind) || f.Field != "rollout/"+c.field || !strings.Contains(err.Error(), c.words) {
					t.Errorf("%v, want rollout/%s: %s", err, c.field, c.words)
				}
			}
			if len(r.Waves) > 0 && r.Waves[0].Name != "" {
				t.Error("the caller's rollout was changed")
			}
		}
	})
}

func TestPreviewOfWaves(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	ids := e.fleet(40)
	e.ok(e.Presence(ctx, ids[0], true))
	m := e.image("2", content(900, 1))
	n := orchestrator.NewJob{Name: "j", Image: m.ID, Devices: ids, Rollout: &orchestrator.Rollout{Waves: []orchestrator.Wave{
		{Name: "canary", Devices: []string{"d007", "d003"}, Soak: orchestrator.Duration(time.Hour)}, {Percent: 10, Approve: true},
	}}}
	p := must[orchestrator.JobPreview](t)(e.PreviewJob(ctx, n))
	var waves []string
	for _, w := range p.Waves {
		waves = append(waves, fmt.Sprintf("%s %d %d %v", w.Name, w.Devices, w.Bytes, time.Duration(w.Duration)))
	}
	if got := strings.Join(waves, ", "); got != "canary 2 1800 1h0m30s, wave 2 4 3600 30s, rest 34 30600 30s" {
		t.Errorf("waves: %s", got)
	}
	if p.Bytes != 40*900 || time.Duration(p.Duration) != time.Hour+90*time.Second || time.Duration(p.DeviceTime) != 30*time.Second || p.Offline != 39 {
		t.Errorf("%+v", p)
	}
	if !slices.Contains(p.Assumes, "Whoever approves waves does so at once.") {
		t.Errorf("assumes %q", p.Assumes)
	}
	job := must[orchestrator.Job](t)(e.CreateJob(ctx, n))
	for i := range p.Waves {
		list, _, err := e.WaveMembers(ctx, job.Name, i+1, orchestrator.Page{})
		e.ok(err)
		for k, id := range p.Waves[i].First {
			if list[k].Device != id {
				t.Errorf("wave %d begins with %v, and %v were shown", i+1, list, p.Waves[i].First)
				break
			}
		}
		if len(p.Waves[i].First) != min(20, p.Waves[i].Devices) {
			t.Errorf("wave %d: %d devices are shown", i+1, len(p.Waves[i].First))
		}
	}
	n.Name = ""
	p = must[orchestrator.JobPreview](t)(e.PreviewJob(ctx, n))
	if !strings.HasPrefix(p.Assumes[len(p.Assumes)-1], "The job has no name yet") {
		t.Errorf("assumes %q", p.Assumes)
	}
}

// TestPreviewReckonsWithLimits: the paces of groups, whether they list their devices or
// find them, and the service's own limit make a job take longer.
func TestPreviewReckonsWithLimits(t *testing.T) {
	const each = 30 * time.Second
	e := newEnv(t, func(o *orchestrator.Options) { o.MaxInProgress = 20 })
	defer e.checkClean()
	ids := e.fleet(40)
	must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "cell", Devices: append([]string{"d000"}, ids[36:]...)}))
	must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "found", Query: `id in ["d000", "d001", "d002", "d039"]`}))
	m := e.image("2", content(900, 1))
	for _, c := range []struct {
		groups []orchestrator.GroupPace
		want   time.Duration
	}{
		{nil, 2 * each}, // 39 devices, 20 at a time
		{[]orchestrator.GroupPace{{Group: "cell", MaxInProgress: 10}}, 2 * each},
		{[]orchestrator.GroupPace{{Group: "cell", MaxInProgress: 1}}, 4 * each}, // but d039, which is none of the job's
		{[]orchestrator.GroupPace{{Group: "cell", MaxInProgress: 1}, {Group: "found", PerMinute: 1}}, 3*time.Minute + each},
	} {
		n := orchestrator.NewJob{Name: "j", Image: m.ID, Devices: ids[:39], Rollout: &orchestrator.Rollout{Pace: &orchestrator.Pace{MaxInProgress: 100, Groups: c.groups}}}
		p := must[orchestrator.JobPreview](t)(e.PreviewJob(ctx, n))
		if time.Duration(p.Duration).Round(each) != c.want {
			t.Errorf("with %+v it takes %v, want %v", c.groups, time.Duration(p.Duration), c.want)
		}
		if !slices.Contains(p.Assumes, "The job has all 20 devices that the service lets be in progress at once; no other job takes any of them.") {
			t.Errorf("assumes %q", p.Assumes)
		}
	}
}

func TestPreviewExclusions(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.plant() // d000 to d005 run 1.0 to 1.5
	via, goal := e.chain()
	must[orchestrator.Device](t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: "new", Type: "pump"}))
	e.ok(e.Hello(ctx, "d004", schemas.Hello{V: 1, HostVersions: map[string]string{"oem_host_version": "2"}}))
	e.ok(e.Hello(ctx, "d003", schemas.Hello{V: 1, HostVersions: map[string]string{"oem_host_version": ""}})) // cannot vouch for it any more
	for _, c := range []struct {
		name     string
		ignore   bool
		via      []string
		excluded string
		paths    map[string]int
		bytes    uint64
	}{
		{"by min version", false, nil, "d000 unreachable, d001 unreachable, d002 unreachable, d003 unknown, d004 running, new unknown, v000 unfit", nil, 300},
		{"over 1.5", false, []string{via.ID}, "d003 unknown, d004 running, new unknown, v000 unfit",
			map[string]int{"1.0 > 1.5 > 2": 1, "1.1 > 1.5 > 2": 1, "1.2 > 1.5 > 2": 1, "1.5 > 2": 1}, 3*400 + 300},
		{"whatever is running", true, nil, "v000 unfit", nil, 7 * 300},
	} {
		n := orchestrator.NewJob{Name: "j", Image: goal.ID, Query: "true", IgnoreValidation: c.ignore}
		if c.via != nil {
			n.Rollout = &orchestrator.Rollout{Via: c.via}
		}
		p := must[orchestrator.JobPreview](t)(e.PreviewJob(ctx, n))
		var got []string
		counts := map[orchestrator.ExclusionKind]int{}
		for _, x := range p.Exclusions {
			got = append(got, x.Device+" "+string(x.Kind))
			if counts[x.Kind]++; x.Reason == "" {
				t.Errorf("%s: no reason for %s", c.name, x.Device)
			}
		}
		if s := strings.Join(got, ", "); s != c.excluded || !maps.Equal(counts, p.Excluded) {
			t.Errorf("%s: excluded are %s (%v), want %s", c.name, s, p.Excluded, c.excluded)
		}
		if !maps.Equal(p.Paths, c.paths) || p.Bytes != c.bytes {
			t.Errorf("%s: paths %v and %d bytes, want %v and %d", c.name, p.Paths, p.Bytes, c.paths, c.bytes)
		}
	}
	// An image for all versions is not kept from a device whose version is unknown.
	p := must[orchestrator.JobPreview](t)(e.PreviewJob(ctx, orchestrator.NewJob{Image: via.ID, Devices: []string{"new", "d003", "d005"}}))
	if len(p.Exclusions) != 1 || p.Exclusions[0] != (orchestrator.Exclusion{Device: "d005", Kind: "running", Reason: "it runs 1.5 already"}) {
		t.Errorf("%+v", p.Exclusions)
	}
}

// A device in quarantine is told as such, whatever it runs and whether or not validation is ignored, and
// neither as offline nor as busy: it is not its connection or its work that it waits for.
func TestPreviewNamesQuarantine(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	ids := e.fleet(4)
	e.job("under-way", e.image("1", content(1000, 1)).ID, ids...)
	m := e.image("2", content(1000, 2))
	before := must[orchestrator.JobPreview](t)(e.PreviewJob(ctx, orchestrator.NewJob{Image: m.ID, Devices: ids}))
	d := must[orchestrator.Device](t)(e.QuarantineDevice(ctx, ids[1], "stolen"))
	must[orchestrator.Device](t)(e.QuarantineDevice(ctx, ids[2], ""))
	since := d.QuarantinedAt.UTC().Format("2006-01-02 15:04 MST")
	for _, ignore := range []bool{false, true} {
		p := must[orchestrator.JobPreview](t)(e.PreviewJob(ctx, orchestrator.NewJob{Image: m.ID, Devices: ids, IgnoreValidation: ignore}))
		want := []orchestrator.Exclusion{
			{Device: ids[1], Kind: orchestrator.ExcludedQuarantined, Reason: "quarantined since " + since + ": stolen; a job waits for its release"},
			{Device: ids[2], Kind: orchestrator.ExcludedQuarantined, Reason: "quarantined since " + since + "; a job waits for its release"},
		}
		if !slices.Equal(p.Exclusions, want) || p.Excluded[orchestrator.ExcludedQuarantined] != 2 {
			t.Errorf("excluded %v: %+v, want %+v", p.Excluded, p.Exclusions, want)
		}
		if p.Busy != before.Busy-2 || p.Offline+p.Running > 2 || p.Bytes != 2*m.Size {
			t.Errorf("busy %d (before %d), offline %d, %d bytes", p.Busy, before.Busy, p.Offline, p.Bytes)
		}
	}
	must[orchestrator.Device](t)(e.ReleaseDevice(ctx, ids[1]))
	if p := must[orchestrator.JobPreview](t)(e.PreviewJob(ctx, orchestrator.NewJob{Image: m.ID, Devices: ids})); p.Excluded[orchestrator.ExcludedQuarantined] != 1 {
		t.Errorf("after the release %v", p.Excluded)
	}
}

// What earlier updates took is what the next one is reckoned to take, if their
// images were about as large.
func TestPreviewLearnsFromEarlierUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		defer e.checkClean()
		ids := e.fleet(3)
		e.job("first", e.image("1", content(1000, 1)).ID, ids...)
		for _, id := range ids {
			time.Sleep(time.Minute)
			x := e.execution("first", id)
			e.ok(e.Status(ctx, id, status(x, 1, schemas.StateSucceeded)))
		}
		for _, c := range []struct {
			size int
			want time.Duration
			says string
		}{
			{1999, 2 * time.Minute, "the median of the last 3 updates"}, {500, 2 * time.Minute, "the median of the last 3 updates"},
			{2002, 30 * time.Second, "2002 bytes at 9000 bytes per second"}, {90_000, 40 * time.Second, "No earlier update tells more"},
		} {
			m := e.image(fmt.Sprintf("2.%d", c.size), content(c.size, 9))
			p := must[orchestrator.JobPreview](t)(e.PreviewJob(ctx, orchestrator.NewJob{Image: m.ID, Devices: ids}))
			if time.Duration(p.DeviceTime) != c.want || !strings.Contains(p.Assumes[0], c.says) {
				t.Errorf("%d bytes take %v (%s), want %v", c.size, time.Duration(p.DeviceTime), p.Assumes[0], c.want)
			}
		}
	})
}
