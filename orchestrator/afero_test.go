package orchestrator_test

import (
	"bytes"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"davit/orchestrator"
	"davit/schemas"
)

// saysRunning lets a lamp report the numbers of its attributes.
func (e *env) saysRunning(device string, numbers map[string]string) orchestrator.Device {
	e.t.Helper()
	e.ok(e.Hello(ctx, device, schemas.Hello{V: 1, Dialect: "afero", HostVersions: numbers}))
	return must[orchestrator.Device](e.t)(e.Device(ctx, device))
}

func TestReportedNumbersBecomeVersions(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.lamps(1)
	e.numbered("app", "1.0", 0, 1)
	e.numbered("boot", "b2", 2, 2)
	none := []string(nil)
	for _, c := range []struct {
		name        string
		says        map[string]string
		versions    map[string]string // that are shown from then on
		unconfirmed []string
	}{
		{"nothing", nil, map[string]string{}, none},
		{"known numbers", map[string]string{"2101": "1", "2102": "2"}, map[string]string{"app": "1.0", "boot": "b2"}, none},
		{"a number of the other type", map[string]string{"2101": "2"}, map[string]string{"app": "#2", "boot": "b2"}, none},
		{"zeros in front", map[string]string{"2101": "001"}, map[string]string{"app": "1.0", "boot": "b2"}, none},
		{"the highest", map[string]string{"2101": "18446744073709551615"}, map[string]string{"app": "#18446744073709551615", "boot": "b2"}, none},
		{"none any more", map[string]string{"2101": ""}, map[string]string{"app": "#18446744073709551615", "boot": "b2"}, []string{"app"}},
		{"0", map[string]string{"2101": "0"}, map[string]string{"app": "#0", "boot": "b2"}, none},
		{"no numbers", map[string]string{"2101": "1.0", "2102": "-1"}, map[string]string{"app": "#0", "boot": "b2"}, none},
		{"too large for a number", map[string]string{"2101": "18446744073709551616"}, map[string]string{"app": "#0", "boot": "b2"}, none},
		{"other attributes", map[string]string{"2103": "1", "oem_host_version": "1"}, map[string]string{"app": "#0", "boot": "b2"}, none},
	} {
		if d := e.saysRunning("l0", c.says); !maps.Equal(d.Versions, c.versions) || !slices.Equal(d.Unconfirmed, c.unconfirmed) {
			t.Errorf("%s: shown are %v, unconfirmed %v; want %v, %v", c.name, d.Versions, d.Unconfirmed, c.versions, c.unconfirmed)
		}
	}
	// What was unknown is known by the next hello once an image has the number.
	e.saysRunning("l0", map[string]string{"2101": "40"})
	e.numbered("app", "factory", 40, 40)
	if d := e.saysRunning("l0", map[string]string{"2101": "40"}); d.Versions["app"] != "factory" {
		t.Errorf("device %+v", d)
	}
}

// TestOtherDialectsReportTexts: a number is a version like any other there.
func TestOtherDialectsReportTexts(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.fleet(1)
	m := e.image("2", content(10, 1))
	e.ok(e.Hello(ctx, "d000", schemas.Hello{V: 1, HostVersions: map[string]string{"oem_host_version": "1", "2101": "9"}}))
	if d := must[orchestrator.Device](t)(e.Device(ctx, "d000")); m.VersionID != 1 || !maps.Equal(d.Versions, map[string]string{"app": "1"}) {
		t.Errorf("image %d, device %+v", m.VersionID, d.Versions)
	}
}

func TestJobOnAferoDevice(t *testing.T) {
	for _, c := range []struct {
		name, reports string
		state         schemas.State
		cause         schemas.Cause
		detail        string
		version       string // shown of the device afterwards
	}{
		{"the image's number", "2", schemas.StateSucceeded, schemas.CauseNone, "", "1.1"},
		{"the number before", "1", schemas.StateFailed, schemas.CauseBoot, `the host MCU runs "1.0" and not "1.1"`, "1.0"},
		{"a number that nobody knows", "3", schemas.StateFailed, schemas.CauseBoot, `the host MCU runs "#3" and not "1.1"`, "#3"},
		{"the version as a text", "1.1", schemas.StateFailed, schemas.CauseBoot, `the host MCU runs "" and not "1.1"`, "1.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t)
				defer e.checkClean()
				e.lamps(1)
				e.start()
				defer func() { e.stop() }()
				e.numbered("app", "1.0", 0, 1)
				m := e.numbered("app", "1.1", 0, 2)
				e.saysRunning("l0", map[string]string{"2101": "1", "2102": ""})
				e.job("j", m.ID, "l0")
				synctest.Wait()
				o, _ := e.broker.offer("l0")
				if o.Version != "1.1" || o.VersionID != 2 || o.Host != (schemas.HostHint{Dialect: "afero", VersionProperty: "2101", NumericType: 101, AttributeSize: 510}) {
					t.Errorf("offer %+v", o)
				}
				x := e.execution("j", "l0")
				booting := status(x, 1, schemas.StateBooting)
				booting.HostVersion = "1"
				e.ok(e.Status(ctx, "l0", booting))
				if got := e.execution("j", "l0"); got.HostVersion != "1.0" || got.VersionID != 2 {
					t.Errorf("execution %+v", got)
				}
				end := status(x, 2, schemas.StateSucceeded)
				end.HostVersion = c.reports
				e.ok(e.Status(ctx, "l0", end))
				if got := e.execution("j", "l0"); got.State != c.state || got.Cause != c.cause || !strings.Contains(got.Detail, c.detail) {
					t.Errorf("ended as %s, %q: %s", got.State, got.Cause, got.Detail)
				}
				if d := must[orchestrator.Device](t)(e.Device(ctx, "l0")); d.Versions["app"] != c.version {
					t.Errorf("the device shows %v, want %s", d.Versions, c.version)
				}
				if a, n := e.broker.lastAck("l0"); n != 2 || a.State != c.state {
					t.Errorf("%d acks, the last %+v", n, a)
				}
			})
		})
	}
}

// TestReportOfAForeignExecution: what is not the device's is acknowledged and
// changes nothing, numbers or not.
func TestReportOfAForeignExecution(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.lamps(2)
	m := e.numbered("app", "1.0", 0, 1)
	e.job("j", m.ID, "l0")
	x := e.execution("j", "l0")
	unknown := status(x, 1, schemas.StateSucceeded)
	unknown.Execution = "ex-none"
	for _, st := range []schemas.Status{status(x, 1, schemas.StateSucceeded), unknown} {
		st.HostVersion = "1"
		e.ok(e.Status(ctx, "l1", st))
		if a, _ := e.broker.lastAck("l1"); !a.Superseded {
			t.Errorf("ack %+v", a)
		}
	}
	if d := must[orchestrator.Device](t)(e.Device(ctx, "l1")); len(d.Versions) != 0 {
		t.Errorf("device %+v", d)
	}
}

// TestMinVersionOnAferoDevices: the rules go by the versions that numbers stand
// for, and a version that runs already needs no transfer.
func TestMinVersionOnAferoDevices(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.lamps(4)
	e.numbered("app", "1.0", 0, 1)
	e.numbered("app", "1.1", 0, 2)
	m := e.numbered("app", "2.0", 0, 3)
	must[orchestrator.Image](t)(e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{MinVersion: ptr("1.1")}))
	for device, id := range map[string]string{"l0": "1", "l1": "2", "l2": "3", "l3": "7"} {
		e.saysRunning(device, map[string]string{"2101": id})
	}
	e.job("j", m.ID, "l0", "l1", "l2", "l3")
	for device, want := range map[string]schemas.State{
		"l0": schemas.StateRejected, "l1": schemas.StateOffered, "l2": schemas.StateSucceeded, "l3": schemas.StateRejected,
	} {
		if x := e.execution("j", device); x.State != want || want == schemas.StateRejected && x.Cause != schemas.CauseMinVersion {
			t.Errorf("%s: %s, %s, %s", device, x.State, x.Cause, x.Detail)
		}
	}
	e.saysRunning("l1", map[string]string{"2101": "3"}) // flashed by other means
	if x := e.execution("j", "l1"); x.State != schemas.StateSucceeded || x.HostVersion != "2.0" {
		t.Errorf("l1: %+v", x)
	}
}

// TestNumberThatIsNamedLater: what a device was flashed with may be registered
// after its hello. A job decides by the name at once, and the device is shown with it.
func TestNumberThatIsNamedLater(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.lamps(2)
	e.saysRunning("l0", map[string]string{"2101": "7"})
	e.saysRunning("l1", map[string]string{"2101": "8"})
	e.numbered("app", "1.0", 7, 7)
	m := e.numbered("app", "2.0", 0, 9)
	must[orchestrator.Image](t)(e.UpdateImage(ctx, m.ID, orchestrator.ImagePatch{MinVersion: ptr("1.0")}))
	e.job("j", m.ID, "l0", "l1")
	for device, want := range map[string]schemas.State{"l0": schemas.StateOffered, "l1": schemas.StateRejected} {
		if x := e.execution("j", device); x.State != want {
			t.Errorf("%s: %s, %s, %s", device, x.State, x.Cause, x.Detail)
		}
	}
}

// TestTextThatLooksLikeANumber: where versions are texts, one that begins with
// the mark is one of them.
func TestTextThatLooksLikeANumber(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.lamps(0)
	must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: "board", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app"}},
	}))
	must[orchestrator.Device](t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: "b0", Type: "board"}))
	e.numbered("app", "1.0", 7, 7)
	m, err := e.UploadImage(ctx, orchestrator.NewImage{ImageType: "app", DeviceTypes: []string{"board"}, Version: "2.0", MinVersion: "1.0", Format: "binary"},
		bytes.NewReader(content(300, 9)))
	e.ok(err)
	e.ok(e.Hello(ctx, "b0", schemas.Hello{V: 1, Dialect: "ayla", HostVersions: map[string]string{orchestrator.DefaultVersionProperty: "#7"}}))
	e.job("j", m.ID, "b0")
	if x := e.execution("j", "b0"); x.State != schemas.StateRejected || x.Cause != schemas.CauseMinVersion {
		t.Errorf("%s, %s: the text was taken for version 1.0", x.State, x.Cause)
	}
}

func TestAttributeSize(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.lamps(0)
	change := func(n int, dialect string) (orchestrator.DeviceType, error) {
		list := []orchestrator.EnabledImageType{{ID: "app", NumericType: 101}}
		if dialect != "afero" {
			list[0].NumericType = 0
		}
		return e.UpdateDeviceType(ctx, "lamp", orchestrator.DeviceTypePatch{AttributeSize: &n, Dialect: &dialect, ImageTypes: &list})
	}
	for _, n := range []int{5, 253, 510, 2046, 0} {
		if dt := must[orchestrator.DeviceType](t)(change(n, "afero")); dt.AttributeSize != n {
			t.Errorf("set to %d, it is %d", n, dt.AttributeSize)
		}
	}
	for _, n := range []int{-1, 1, 4, 2047} {
		_, err := change(n, "afero")
		e.wants(err, orchestrator.ErrInvalid, "5 to 2046")
		e.wantsField(err, "attribute_size")
	}
	_, err := change(253, "ayla")
	e.wants(err, orchestrator.ErrInvalid, "only the afero dialect")
	must[orchestrator.DeviceType](t)(change(0, "ayla"))
}

// TestProfile: a device is told what its type says of its host MCU exactly when
// its hello does not say the same.
func TestProfile(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	e.lamps(1)
	e.others(t)
	lamp := schemas.Profile{V: 1, DeviceType: "lamp", Dialect: "afero", VersionProperties: []string{"2101", "2102"}}
	pump := schemas.Profile{V: 1, DeviceType: "pump", Dialect: "ayla", VersionProperties: []string{"oem_host_version"}}
	bare := schemas.Profile{V: 1, DeviceType: "bare", Dialect: "ayla", VersionProperties: []string{}}
	for _, c := range []struct {
		name, device string
		hello        schemas.Hello
		want         *schemas.Profile
	}{
		{"no configuration", "l0", schemas.Hello{}, &lamp},
		{"another dialect", "l0", schemas.Hello{Dialect: "ayla", HostVersions: map[string]string{"2101": "1", "2102": "1"}}, &lamp},
		{"one attribute missing", "l0", schemas.Hello{Dialect: "afero", HostVersions: map[string]string{"2101": "1"}}, &lamp},
		{"as it should be", "l0", schemas.Hello{Dialect: "afero", HostVersions: map[string]string{"2101": "1", "2102": ""}}, nil},
		{"more than is asked for", "l0", schemas.Hello{Dialect: "afero", HostVersions: map[string]string{"2101": "", "2102": "", "2103": "5"}}, nil},
		{"another property", "p0", schemas.Hello{Dialect: "ayla", HostVersions: map[string]string{"host_version": "1"}}, &pump},
		{"the property", "p0", schemas.Hello{Dialect: "ayla", HostVersions: map[string]string{"oem_host_version": ""}}, nil},
		{"a type without image types", "b0", schemas.Hello{Dialect: "ayla"}, nil},
		{"the same in another dialect", "b0", schemas.Hello{Dialect: "none"}, &bare},
	} {
		c.hello.V = schemas.Version
		e.broker.profiles = map[string][]schemas.Profile{}
		e.ok(e.Hello(ctx, c.device, c.hello))
		want := map[string][]schemas.Profile{}
		if c.want != nil {
			want[c.device] = []schemas.Profile{*c.want}
		}
		if !reflect.DeepEqual(e.broker.profiles, want) {
			t.Errorf("%s: published %+v, want %+v", c.name, e.broker.profiles, want)
		}
	}
	e.broker.profiles = map[string][]schemas.Profile{}
	e.wants(e.Hello(ctx, "nobody", schemas.Hello{V: 1}), orchestrator.ErrNotFound)
	e.broker.setFail(errors.New("broker is down"))
	e.ok(e.Hello(ctx, "l0", schemas.Hello{V: 1, Module: "m 1"})) // recorded all the same
	if d := must[orchestrator.Device](t)(e.Device(ctx, "l0")); d.Module != "m 1" || len(e.broker.profiles) != 0 {
		t.Errorf("device %+v, profiles %v", d, e.broker.profiles)
	}
}

// others makes a pump p0, and b0 of a type that takes nothing.
func (e *env) others(t *testing.T) {
	t.Helper()
	must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: "pump", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: "app"}}}))
	must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "bare", Dialect: "ayla"}))
	must[orchestrator.Device](t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: "p0", Type: "pump"}))
	must[orchestrator.Device](t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: "b0", Type: "bare"}))
}

// TestProfileOfManyImageTypes: a hello reports 16 versions at most, so the first
// 16 image types of a device type are asked for, and no more.
func TestProfileOfManyImageTypes(t *testing.T) {
	e := newEnv(t)
	defer e.checkClean()
	var list []orchestrator.EnabledImageType
	reports := map[string]string{}
	for i := range 20 {
		it := must[orchestrator.ImageType](t)(e.CreateImageType(ctx, orchestrator.NewImageType{ID: "t" + string(rune('a'+i))}))
		list = append(list, orchestrator.EnabledImageType{ID: it.ID, NumericType: 101 + i})
		if i < schemas.MaxHostVersions {
			reports[list[i].Property()] = ""
		}
	}
	must[orchestrator.DeviceType](t)(e.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "lamp", Dialect: "afero", ImageTypes: list}))
	must[orchestrator.Device](t)(e.CreateDevice(ctx, orchestrator.NewDevice{ID: "l0", Type: "lamp"}))
	e.ok(e.Hello(ctx, "l0", schemas.Hello{V: 1, Dialect: "afero"}))
	if p := e.broker.profiles["l0"]; len(p) != 1 || len(p[0].VersionProperties) != 16 || p[0].VersionProperties[15] != "2116" {
		t.Errorf("profiles %+v", p)
	}
	e.ok(e.Hello(ctx, "l0", schemas.Hello{V: 1, Dialect: "afero", HostVersions: reports}))
	if n := len(e.broker.profiles["l0"]); n != 1 {
		t.Errorf("%d profiles for a hello that reports as many as it may", n)
	}
}
