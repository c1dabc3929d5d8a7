package browsertest

import (
	"fmt"
	"net/http"
	"os"
	"time"

	"davit/internal/client"
	"davit/internal/sim"
	"davit/orchestrator"
	"davit/schemas"
)

// The fleet that the pages are shown with: what a small maker of heating controls
// might have.
const (
	thermostats = 26
	valves      = 14
)

// fleet is the scene's records by name.
type fleet struct {
	*scene
	images  map[string]orchestrator.Image // by title
	running string                        // job that is under way
	done    string                        // job that has ended
	// proceed lets the devices that stand still in the running job go on.
	proceed *gate
}

// pictures is the folder for pictures of the pages; empty if none are wanted.
func pictures() string { return os.Getenv("DAVIT_SCREENSHOTS") }

func newFleet(s *scene) *fleet {
	s.t.Helper()
	f := &fleet{scene: s, images: map[string]orchestrator.Image{}, running: "thermostats-2.1", done: "valves-autumn", proceed: newGate()}
	s.t.Cleanup(f.proceed.open)
	f.types()
	f.firmware()
	f.devices()
	f.jobs()
	return f
}

func (f *fleet) types() {
	f.t.Helper()
	ctx := f.t.Context()
	for _, n := range []orchestrator.NewImageType{
		{ID: "application", Name: "Application", Description: "The product's own firmware"},
		{ID: "bootloader", Name: "Bootloader", Description: "First stage; updated rarely"},
		{ID: "graphics", Name: "Display graphics", Description: "Fonts and pictures of the display"},
	} {
		must[orchestrator.ImageType](f.t)(f.client.CreateImageType(ctx, n))
	}
	seconds := func(n int) orchestrator.Duration { return orchestrator.Duration(time.Duration(n) * time.Second) }
	for _, n := range []orchestrator.NewDeviceType{
		{ID: "thermostat-t2", Name: "Thermostat T2", Description: "Room thermostat with display", Dialect: "ayla",
			ImageTypes: []orchestrator.EnabledImageType{{ID: "application", SizeLimit: 512 << 10}, {ID: "graphics", VersionProperty: "gfx_version"}}},
		{ID: "valve-v1", Name: "Radiator valve V1", Description: "Battery-powered valve", Dialect: "ayla",
			ImageTypes: []orchestrator.EnabledImageType{{ID: "application", SizeLimit: 256 << 10}, {ID: "bootloader", VersionProperty: "boot_version"}}},
		{ID: "lab-board", Name: "Lab board", Description: "Boards on the rack of the lab", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "application"}},
			AnswerTimeout: seconds(10), VerdictTimeout: seconds(5), BootTimeout: seconds(15), VersionTimeout: seconds(10)},
	} {
		must[orchestrator.DeviceType](f.t)(f.client.CreateDeviceType(ctx, n))
	}
}

func (f *fleet) firmware() {
	f.t.Helper()
	for i, n := range []orchestrator.NewImage{
		{ImageType: "application", DeviceTypes: []string{"valve-v1"}, Version: "3.4.1", Description: "Quieter motor, longer battery life", Tags: []string{"released"}},
		{ImageType: "application", DeviceTypes: []string{"thermostat-t2"}, Version: "2.0.0", Description: "New schedule editor", Tags: []string{"released"}},
		{ImageType: "bootloader", DeviceTypes: []string{"valve-v1"}, Version: "1.2.0", MinVersion: "1.1.0", Tags: []string{"factory"}},
		{ImageType: "graphics", DeviceTypes: []string{"thermostat-t2"}, Version: "4.0.2", Description: "Larger digits", Tags: []string{"released"}},
		{ImageType: "application", DeviceTypes: []string{"lab-board"}, Version: "2.0.0", Description: "Build for the rack", Tags: []string{"lab"}},
		{ImageType: "application", DeviceTypes: []string{"thermostat-t2"}, Version: "2.1.0", Description: "Fixes the frost guard; smoother control", Tags: []string{"candidate", "winter"}},
	} {
		size := 96 << 10
		if n.DeviceTypes[0] == "lab-board" {
			size = 24 << 10
		}
		m := f.image(n, size, uint64(i+1))
		f.images[n.DeviceTypes[0]+" "+n.ImageType+" "+n.Version] = m
	}
}

// part is what a simulated module plays in the running job.
type part int

const (
	goesWell part = iota
	isTooSmall
	hasBadFlash
	isFetching
	isLoading
	isAway
)

// partOf deals out the parts.
func partOf(i int) part {
	switch i {
	case 4, 17:
		return isTooSmall
	case 9:
		return hasBadFlash
	case 12, 19, 22:
		return isFetching
	case 14, 24:
		return isLoading
	case 6, 15, 21, 25:
		return isAway
	}
	return goesWell
}

func (f *fleet) devices() {
	f.t.Helper()
	sites := []string{"berlin", "hamburg", "lyon"}
	for i := range thermostats {
		id, site := fmt.Sprintf("th-%s-%03d", sites[i%3], i+1), sites[i%3]
		secret := f.device(id, "thermostat-t2", map[string]string{"site": site, "floor": fmt.Sprint(i%4 + 1)})
		if p := partOf(i); p != isAway {
			version := []string{"2.0.0", "2.0.0", "1.9.2", "2.0.0", "1.8.0"}[i%5]
			f.module(id, "thermostat-t2", secret, p, map[string]string{sim.DefaultVersionProperty: version, "gfx_version": "4.0.2"})
		}
	}
	for i := range valves {
		id := fmt.Sprintf("valve-%s-%03d", sites[i%2], i+1)
		secret := f.device(id, "valve-v1", map[string]string{"site": sites[i%2]})
		f.module(id, "valve-v1", secret, goesWell, map[string]string{sim.DefaultVersionProperty: "3.3.0", "boot_version": "1.1.0"})
	}
	f.groups()
	f.until("all modules are online and have told their versions", func() bool {
		fleet, err := f.client.Fleet(f.t.Context())
		return err == nil && fleet.Online == thermostats-4+valves && fleet.Versions["application"]["3.3.0"] == valves
	})
}

func (f *fleet) device(id, kind string, labels map[string]string) (secret string) {
	f.t.Helper()
	return must[client.DeviceCredentials](f.t)(f.client.CreateDevice(f.t.Context(), orchestrator.NewDevice{ID: id, Type: kind, Labels: labels})).Password
}

func (f *fleet) groups() {
	f.t.Helper()
	for _, n := range []orchestrator.NewGroup{
		{ID: "berlin", Description: "Everything in the Berlin office", Query: `label.site == "berlin"`},
		{ID: "thermostats-behind", Description: "Thermostats that do not run 2.1 yet", Query: `type == "thermostat-t2" and version.application < "2.1.0"`},
		{ID: "pilot", Description: "First to get anything new", Devices: []string{"th-berlin-001", "th-hamburg-002", "valve-berlin-001"}},
	} {
		must[orchestrator.Group](f.t)(f.client.CreateGroup(f.t.Context(), n))
	}
}

// module runs a simulated module that plays its part.
func (f *fleet) module(id, kind, secret string, p part, versions map[string]string) {
	f.t.Helper()
	cfg := sim.ModuleConfig{
		Broker: f.server.Addresses().MQTT, Device: id, Username: id, Password: secret, DeviceType: kind,
		Versions: versions, Chunk: 2048, Window: 4, Repeat: 300 * time.Millisecond,
	}
	switch p {
	case goesWell:
		if pictures() != "" && kind == "thermostat-t2" {
			cfg.Spoil = f.slow(id)
		}
	case isTooSmall:
		cfg.Refuse, cfg.Spoil = schemas.CauseSize, tooSmall
	case hasBadFlash:
		cfg.Spoil = f.badFlash
	case isFetching:
		cfg.Spoil = f.stuckFetching(2 + len(id)%3 + int(id[len(id)-1]-'0')%4)
	case isLoading:
		cfg.Spoil = f.stuckLoading
	}
	run(f.t, sim.NewModule(cfg).Run)
}

// edited changes a status on its way.
func edited(kind schemas.Kind, payload []byte, edit func(*schemas.Status) bool) []byte {
	var s schemas.Status
	if kind != schemas.KindStatus || schemas.Decode(payload, &s) != nil {
		return payload
	}
	if !edit(&s) {
		return nil
	}
	b, err := schemas.Encode(&s)
	if err != nil {
		return payload
	}
	return b
}

// tooSmall says why it refuses.
func tooSmall(kind schemas.Kind, payload []byte) []byte {
	return edited(kind, payload, func(s *schemas.Status) bool {
		s.Detail = "the slot has 65536 bytes, the image 98304"
		return true
	})
}

// slow fetches only after a while, another one for each device, so that the
// pictures show a job that takes its time.
func (f *fleet) slow(id string) func(schemas.Kind, []byte) []byte {
	wait := time.Duration(0)
	for _, c := range []byte(id) {
		wait = (wait*7 + time.Duration(c)) % 17
	}
	var first time.Time
	return func(kind schemas.Kind, payload []byte) []byte {
		if kind != schemas.KindFetch {
			return payload
		}
		if first.IsZero() {
			first = time.Now()
		}
		if time.Since(first) < wait*time.Second {
			return nil
		}
		return payload
	}
}

// badFlash fails when the image is to be installed.
func (f *fleet) badFlash(kind schemas.Kind, payload []byte) []byte {
	return edited(kind, payload, func(s *schemas.Status) bool {
		switch s.State {
		case schemas.StateInstalling:
			s.State, s.Cause, s.Code, s.Detail = schemas.StateFailed, schemas.CauseFlash, 5, "sector 17 could not be erased"
		case schemas.StateBooting, schemas.StateSucceeded:
			return false
		}
		return true
	})
}

// stuckFetching asks for a few pieces and then for nothing until the gate opens.
func (f *fleet) stuckFetching(pieces int) func(schemas.Kind, []byte) []byte {
	asked := 0
	return func(kind schemas.Kind, payload []byte) []byte {
		if kind != schemas.KindFetch {
			return payload
		}
		if asked++; asked > pieces && !f.proceed.is() {
			return nil
		}
		return payload
	}
}

// stuckLoading stops in the middle of the serial leg until the gate opens.
func (f *fleet) stuckLoading(kind schemas.Kind, payload []byte) []byte {
	return edited(kind, payload, func(s *schemas.Status) bool {
		if f.proceed.is() {
			return true
		}
		if s.State == schemas.StateInstalling {
			s.BytesDone = s.BytesDone * 5 / 8
		}
		return s.State != schemas.StateBooting && s.State != schemas.StateSucceeded
	})
}

// create creates a job in the name of a user.
func (f *fleet) create(user string, n orchestrator.NewJob) {
	f.t.Helper()
	if status, body := f.as(user, http.MethodPost, "/v1/jobs", n); status != http.StatusCreated {
		f.t.Fatalf("job %s: status %d: %s", n.Name, status, body)
	}
}

func (f *fleet) jobs() {
	f.t.Helper()
	ctx := f.t.Context()
	f.create("ada", orchestrator.NewJob{
		Name: f.done, Image: f.images["valve-v1 application 3.4.1"].ID, Query: `type == "valve-v1"`,
		Description: "All valves before the heating season", Start: true,
	})
	f.until("the valves are done", func() bool {
		j, _, err := f.client.Job(ctx, f.done)
		return err == nil && j.State == orchestrator.JobCompleted
	})
	f.create("ada", orchestrator.NewJob{
		Name: f.running, Image: f.images["thermostat-t2 application 2.1.0"].ID, Query: `type == "thermostat-t2"`,
		Description: "Frost guard fix for every thermostat", Start: true,
	})
	f.create("ada", orchestrator.NewJob{
		Name: "graphics-4.0.2-lyon", Image: f.images["thermostat-t2 graphics 4.0.2"].ID, Query: `label.site == "lyon" and type == "thermostat-t2"`,
		Description: "After the application has settled", IgnoreValidation: true,
	})
	f.until("the thermostats stand where they should", func() bool {
		j, _, err := f.client.Job(ctx, f.running)
		return err == nil && j.Counts[schemas.StateSucceeded] == 14 && j.Counts[schemas.StateRejected] == 2 && j.Counts[schemas.StateFailed] == 1 &&
			j.Counts[schemas.StateInstalling] == 2 && j.Counts[schemas.StateDownloading] == 3
	})
}
