package doctor

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"davit/bridge"
	"davit/internal/app/keyfile"
	"davit/internal/ca"
	"davit/internal/nobodytest"
)

var update = flag.Bool("update-doctor", false, "write the examples of docs/doctor.md anew")

// bad are the findings that are not OK.
func bad(found []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(found), func(f Finding) bool { return f.Level == OK })
}

// want holds what was found against one finding that should be there, and tells every other that is not OK.
func want(t *testing.T, found []Finding, check string, level Level, words ...string) {
	t.Helper()
	hit := false
	for _, f := range bad(found) {
		if f.Do == "" {
			t.Errorf("%s does not say what to do: %s", f.Check, f.What)
		}
		here := f.Check == check && f.Level == level
		for _, w := range words {
			here = here && strings.Contains(f.What, w)
		}
		hit = hit || here
		if f.Check != check {
			t.Errorf("something else is not in order: %+v", f)
		}
	}
	if !hit {
		t.Errorf("no %s of %s with %q in\n%s", level, check, words, Text(found))
	}
}

func TestHealthyService(t *testing.T) {
	r := newRig(t)
	if found := Serve(t.Context(), r.system, r.serve, nil); len(bad(found)) > 0 || len(found) < 12 {
		t.Errorf("a healthy machine:\n%s", Text(found))
	}
}

func TestServeFindsWhatIsBroken(t *testing.T) {
	now, whole := time.Now(), newRig(t)
	for _, c := range []struct {
		name  string
		spoil func(r *rig)
		check string
		level Level
		words []string
	}{
		{"another program on the port", func(r *rig) { r.listens("77", "nginx", "nginx\x00", "1F90") }, "ports", Fail, []string{"--http", "127.0.0.1:8080", "nginx (pid 77)"}},
		{"one port twice", func(r *rig) { r.serve.HTTP = r.serve.MQTT }, "ports", Fail, []string{"--mqtt and --http both are 127.0.0.1:1883"}},
		{"a low port", func(r *rig) { r.system.Bind = func(*net.TCPAddr) error { return unix.EACCES } }, "ports", Fail, []string{"below 1024"}},
		{"an address of another machine", func(r *rig) { r.system.Bind, r.serve.MQTT = bind, "192.0.2.1:0x"; r.serve.MQTT = "192.0.2.1:18831" }, "ports", Fail, []string{"does not have the address of 192.0.2.1"}},
		{"others look into the folder", func(r *rig) { must(r.t, os.Chmod(r.serve.Data, 0o755)) }, "data folder", Warn, []string{"0755"}},
		{"others read the token", func(r *rig) { must(r.t, os.Chmod(filepath.Join(r.serve.Data, "admin.token"), 0o644)) }, "data folder", Warn, []string{"admin.token (0644)"}},
		{"a link that leads nowhere", func(r *rig) {
			r.serve.Data = filepath.Join(r.t.TempDir(), "link")
			must(r.t, os.Symlink("/nowhere/davit", r.serve.Data))
		}, "data folder", Fail, []string{"is a link to /nowhere/davit, which is not there"}},
		{"records that are gone", func(r *rig) {
			must(r.t, os.Remove(filepath.Join(r.serve.Data, "davit.db")))
			must(r.t, os.WriteFile(filepath.Join(r.serve.Data, "credentials.json"), []byte(`{"version":1,"principals":[]}`), 0o600))
		}, "store", Fail, []string{"davit.db are missing", "credentials.json beside them"}},
		{"a file in the place of the folder", func(r *rig) { r.serve.Data = r.serve.TLSCert }, "data folder", Fail, []string{"no folder but a file"}},
		{"no certificate", func(r *rig) { must(r.t, os.Remove(r.serve.TLSCert)) }, "files", Fail, []string{"--tls-cert", "does not exist"}},
		{"a folder in the place of a file", func(r *rig) { r.serve.ClientCRLs = append(r.serve.ClientCRLs, r.ca) }, "files", Fail, []string{"is no file but a folder"}},
		{"others read the key", func(r *rig) { must(r.t, os.Chmod(r.serve.TLSKey, 0o644)) }, "files", Warn, []string{"--tls-key holds a secret", "0644"}},
		{"an expired certificate", func(r *rig) {
			r.serve.TLSCert, r.serve.TLSKey = r.issue(ca.Request{Kind: ca.Server, Name: "davit.example.com", Days: 90}, now.Add(-100*24*time.Hour))
		}, "certificates", Fail, []string{"has come to its end"}},
		{"one that ends soon", func(r *rig) {
			r.serve.TLSCert, r.serve.TLSKey = r.issue(ca.Request{Kind: ca.Server, Name: "davit.example.com", Days: 90}, now.Add(-80*24*time.Hour))
		}, "certificates", Warn, []string{"ends in 9 days"}},
		{"one for a week that ends soon", func(r *rig) {
			r.serve.TLSCert, r.serve.TLSKey = r.issue(ca.Request{Kind: ca.Server, Name: "davit.example.com", Days: 7}, now.Add(-5*24*time.Hour))
		}, "certificates", Warn, []string{"ends in"}},
		{"one of the future", func(r *rig) {
			r.serve.TLSCert, r.serve.TLSKey = r.issue(ca.Request{Kind: ca.Server, Name: "davit.example.com"}, now.Add(48*time.Hour))
		}, "certificates", Fail, []string{"begins to be valid on"}},
		{"a key of another certificate", func(r *rig) { r.serve.TLSKey = filepath.Join(r.ca, ca.KeyFile) }, "certificates", Fail, []string{"cannot be used"}},
		{"a device's certificate", func(r *rig) {
			r.serve.TLSCert, r.serve.TLSKey = r.issue(ca.Request{Kind: ca.Device, Name: "pump"}, now)
		}, "certificates", Fail, []string{"is for another use"}},
		{"another name", func(r *rig) { r.serve.PublicURL, r.serve.HTTPS = "https://fleet.example.com", "0.0.0.0:8443" }, "certificates", Warn, []string{"is not for fleet.example.com"}},
		{"an overdue revocation list", func(r *rig) { must(r.t, ignore(ca.WriteCRL(r.ca, now.Add(-200*24*time.Hour)))) }, "certificates", Fail, []string{"was due to be renewed"}},
		{"a revocation list that is none", func(r *rig) { r.serve.ClientCRLs[0] = r.serve.TLSCert }, "certificates", Fail, []string{"is no revocation list"}},
		{"authorities that are none", func(r *rig) {
			r.serve.ClientCA = filepath.Join(r.ca, "none.pem")
			must(r.t, os.WriteFile(r.serve.ClientCA, []byte("hello"), 0o600))
		}, "certificates", Fail, []string{"holds no certificate"}},
		{"no image keys", func(r *rig) { r.serve.Keys = keyfile.Source{Keys: []string{"/nowhere/release.pub"}} }, "image keys", Fail, []string{"/nowhere/release.pub"}},
		{"a full disk", func(r *rig) {
			r.system.Room = func(string) (Room, error) { return Room{1 << 20, 400 << 30, 9e6, 10e6}, nil }
		}, "disk", Fail, []string{"1.0 MiB left of 400.0 GiB"}},
		{"little room", func(r *rig) {
			r.system.Room = func(string) (Room, error) { return Room{9 << 30, 400 << 30, 9e6, 10e6}, nil }
		}, "disk", Warn, []string{"9.0 GiB left"}},
		{"no inodes", func(r *rig) {
			r.system.Room = func(string) (Room, error) { return Room{200 << 30, 400 << 30, 3, 10e6}, nil }
		}, "disk", Fail, []string{"3 inodes left"}},
		{"a clock that was never set", func(r *rig) {
			r.system.Now = func() time.Time { return time.Unix(0, 0) }
			r.serve.TLSCert, r.serve.TLSKey, r.serve.ClientCA, r.serve.ClientCRLs = "", "", "", nil
		}, "clock", Fail, []string{"1970"}},
		{"a clock that is behind", func(r *rig) {
			r.system.Now = func() time.Time { return now.Add(-2 * time.Hour) }
			r.serve.TLSCert, r.serve.TLSKey, r.serve.ClientCA, r.serve.ClientCRLs = "", "", "", nil
		}, "clock", Fail, []string{"behind"}},
		{"a clock that retention does not believe", func(r *rig) {
			r.serve.Retention.Audit, r.serve.ClockConfirmed = 400*24*time.Hour, now.AddDate(0, 0, -3)
			r.system.Synchronised = func() (bool, bool) { return false, true }
		}, "clock", Warn, []string{"nothing is deleted for its age", "known to be right"}},
		{"a clock that nobody keeps", func(r *rig) { r.system.Synchronised = func() (bool, bool) { return false, true } }, "clock", Warn, []string{"no NTP client"}},
		{"few files", func(r *rig) { r.system.OpenFiles = func() (uint64, error) { return 256, nil } }, "open files", Fail, []string{"256 files"}},
		{"a store that is none", func(r *rig) {
			must(r.t, os.WriteFile(filepath.Join(r.serve.Data, "davit.db"), make([]byte, 1<<16), 0o600))
		}, "store", Fail, []string{"davit.db"}},
		{"records of an older davit", func(r *rig) {
			r.unpack("../testdata/layouts/signed.tar.gz", "davit.db")
		}, "store", Warn, []string{"layout", "migrates"}},
		{"a store that is cut short", func(r *rig) {
			must(r.t, os.Truncate(filepath.Join(r.serve.Data, "davit.db"), 3*4096))
		}, "store", Fail, []string{"cut short"}},
		{"broken credentials", func(r *rig) {
			must(r.t, os.WriteFile(filepath.Join(r.serve.Data, "credentials.json"), []byte("{"), 0o600))
		}, "store", Fail, []string{"credentials.json"}},
		{"no broker", func(r *rig) {
			r.serve.External.URL, r.serve.External.Username = "127.0.0.1:1", "davit"
			r.serve.ClientCA, r.serve.ClientCRLs = "", nil
		}, "broker", Fail, []string{"127.0.0.1:1 cannot be reached"}},
		{"no provider", func(r *rig) { r.serve.OIDC.Issuer = "http://127.0.0.1:1" }, "sign-in", Warn, []string{"cannot be reached"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := whole.again(t)
			c.spoil(r)
			found := Serve(t.Context(), r.system, r.serve, nil)
			if c.check == "data folder" || c.check == "files" { // what follows from it is told as well
				found = slices.DeleteFunc(found, func(f Finding) bool { return f.Level != OK && (f.Check == "store" || f.Check == "certificates") })
			}
			want(t, found, c.check, c.level, c.words...)
		})
	}
}

func ignore[T any](_ T, err error) error { return err }

func TestInvalidSettingsAreFound(t *testing.T) {
	r := newRig(t)
	want(t, Serve(t.Context(), r.system, r.serve, errors.New("--module-credit is 1 byte")), "settings", Fail, "--module-credit is 1 byte")
	r.serve.Data = ""
	if found := Serve(t.Context(), r.system, r.serve, errors.New("line 3")); len(found) != 1 || found[0].Level != Fail {
		t.Errorf("%+v", found)
	}
}

func TestManyDevicesNeedLimits(t *testing.T) {
	r := newRig(t)
	r.put("proc/sys/net/core/somaxconn", "128\n")
	r.put("proc/sys/net/ipv4/tcp_mem", "1000 2000 4000\n")
	r.system.OpenFiles = func() (uint64, error) { return 4096, nil }
	for _, found := range [][]Finding{r.system.openFilesFor(19000), r.system.kernel(19000)} {
		for _, f := range found {
			if f.Level != Warn || !strings.Contains(f.What, "19000") || f.Do == "" {
				t.Errorf("%+v", f)
			}
		}
	}
	if found := r.system.kernel(19000); len(found) != 2 {
		t.Errorf("%+v", found)
	}
}

func TestHealthyBridge(t *testing.T) {
	r := newRig(t)
	r.withBridge()
	if found := Bridge(t.Context(), r.system, r.bridge, "", nil); len(bad(found)) > 0 || len(found) < 12 {
		t.Errorf("a healthy machine:\n%s", Text(found))
	}
	// A certain path of a serial port, and one of an adapter that holds bytes back until the bridge asks for another time.
	name := filepath.Base(r.bridge.Ports[0].Path)
	r.put("sys/class/tty/"+name+"/device/latency_timer", "16\n")
	if found := r.system.serialPorts(r.bridge.Ports, nil); len(bad(found)) > 0 || !strings.Contains(found[0].What, "from 16 ms to 1 ms") {
		t.Errorf("%+v", found)
	}
	for _, c := range []struct {
		name  string
		spoil func(r *rig)
		check string
		level Level
		words []string
	}{
		{"a wrong password", func(r *rig) {
			r.bridge.PasswordFile = filepath.Join(t.TempDir(), "other.password")
			must(t, os.WriteFile(r.bridge.PasswordFile, []byte("wrong\n"), 0o600))
		}, "broker", Fail, []string{"does not accept the user name and password", `"rack"`}},
		{"no broker", func(r *rig) { r.bridge.Broker = "mqtt://127.0.0.1:1" }, "broker", Fail, []string{"cannot be reached"}},
		{"a broker without TLS", func(r *rig) { r.bridge.Broker = strings.Replace(r.bridge.Broker, "mqtt://", "mqtts://", 1) }, "broker", Fail, []string{"does not agree on TLS"}},
		{"no adapter", func(r *rig) { r.bridge.Ports[0].Path = "usb:0403:6001:A1" }, "serial ports", Fail, []string{"usb:0403:6001:A1", "is not there"}},
		{"no path", func(r *rig) { r.bridge.Ports[0].Path = "/dev/ttyUSB99" }, "serial ports", Fail, []string{"/dev/ttyUSB99"}},
		{"a file in the place of a port", func(r *rig) { r.bridge.Ports[0].Path = r.bridge.PasswordFile }, "serial ports", Fail, []string{"is no serial port but a file"}},
		{"another program on the line", func(r *rig) {
			r.put("proc/78/comm", "minicom\n")
			must(t, os.MkdirAll(filepath.Join(r.tree.Root, "proc/78/fd"), 0o700))
			must(t, os.Symlink(r.bridge.Ports[0].Path, filepath.Join(r.tree.Root, "proc/78/fd/5")))
		}, "serial ports", Fail, []string{"is open in minicom (pid 78)"}},
		{"ModemManager", func(r *rig) { r.put("proc/79/comm", "ModemManager\n") }, "serial ports", Warn, []string{"ModemManager (pid 79) runs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			spoiled := r.again(t)
			c.spoil(spoiled)
			want(t, Bridge(t.Context(), spoiled.system, spoiled.bridge, "", nil), c.check, c.level, c.words...)
		})
	}
}

// TestPermissions: root passes every permission, so another user looks.
func TestPermissions(t *testing.T) {
	if dir := os.Getenv("DAVIT_DOCTOR_LOOKS_AT"); dir != "" {
		fmt.Print(Text(append(append(dataFolder(filepath.Join(dir, "data")), dataFolder(filepath.Join(dir, "own"))...), append(files([]named{{"--tls-key", filepath.Join(dir, "key"), true}}), dataFolder(filepath.Join(dir, "new"))...)...)))
		return
	}
	base, err := os.MkdirTemp("", "davit-doctor-")
	must(t, err)
	t.Cleanup(func() {
		must(t, errors.Join(os.Chmod(base, 0o700), os.Chmod(filepath.Join(base, "data"), 0o700)))
		must(t, os.RemoveAll(base))
	})
	must(t, os.Mkdir(filepath.Join(base, "data"), 0o500))
	must(t, os.WriteFile(filepath.Join(base, "key"), []byte("secret"), 0o000))
	own := filepath.Join(base, "own") // whose owner has taken rights from himself
	must(t, os.MkdirAll(filepath.Join(own, "blobs", "ab"), 0o700))
	must(t, os.WriteFile(filepath.Join(own, "davit.db"), nil, 0o400))
	must(t, os.Chmod(filepath.Join(own, "blobs", "ab"), 0o500))
	t.Cleanup(func() { must(t, os.Chmod(filepath.Join(own, "blobs", "ab"), 0o700)) })
	const x = 0o555
	must(t, os.Chmod(base, x))
	if os.Geteuid() == 0 {
		for _, path := range []string{"", "blobs", "blobs/ab", "davit.db"} {
			must(t, os.Chown(filepath.Join(own, path), nobodytest.ID, nobodytest.ID))
		}
	}
	out, err := nobodytest.Command(t, "TestPermissions", "DAVIT_DOCTOR_LOOKS_AT="+base).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, words := range []string{"may not write in " + base + "/data", "key cannot be read by", "new does not exist, and", "all that is in " + own + ": blobs/ab (0500), davit.db (0400)", "4 FAIL"} {
		if !strings.Contains(string(out), words) {
			t.Errorf("no %q in\n%s", words, out)
		}
	}
}

// TestACheckThatHangs: one that has no answer is told as that, and holds nobody up.
func TestACheckThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		began := time.Now()
		found := examine(t.Context(), []check{
			{"hangs", func(context.Context) []Finding { <-hold; return nil }},
			{"answers", func(context.Context) []Finding { return []Finding{good("yes")} }},
		}, 10*time.Second)
		if len(found) != 2 || found[0].Level != Fail || found[0].Check != "hangs" || found[1].Level != OK {
			t.Errorf("%+v", found)
		}
		if took := time.Since(began); took > 12*time.Second {
			t.Errorf("it took %s", took)
		}
		close(hold)
	})
}

// TestExamples holds the examples of docs/doctor.md against what is found on a healthy and on a broken machine.
func TestExamples(t *testing.T) {
	healthy := newRig(t)
	broken := healthy.again(t)
	broken.listens("77", "nginx", "nginx\x00", "1F90")
	must(t, os.Chmod(filepath.Join(broken.serve.Data, "admin.token"), 0o644))
	broken.serve.TLSCert, broken.serve.TLSKey = broken.issue(ca.Request{Kind: ca.Server, Name: "davit.example.com", Days: 90}, time.Now().Add(-100*24*time.Hour))
	broken.system.Room = func(string) (Room, error) { return Room{30 << 20, 400 << 30, 9e6, 10e6}, nil }
	broken.system.Synchronised = func() (bool, bool) { return false, true }
	rack := healthy.again(t)
	rack.withBridge()
	rack.put("proc/79/comm", "ModemManager\n")
	rack.bridge.Broker = "mqtt://127.0.0.1:1"
	rack.bridge.Ports = append(rack.bridge.Ports, bridge.PortConfig{Device: "lamp", Path: "usb:0403:6001:A1"})
	var b strings.Builder
	for _, e := range []struct {
		title, command string
		rig            *rig
		found          []Finding
	}{
		{"A service on a healthy machine", "davit doctor serve --config serve.yaml", healthy, Serve(t.Context(), healthy.system, healthy.serve, nil)},
		{"A service on a broken one", "davit doctor serve --config serve.yaml", broken, Serve(t.Context(), broken.system, broken.serve, nil)},
		{"A bridge on a broken one", "davit doctor bridge --config bridge.yaml", rack, Bridge(t.Context(), rack.system, rack.bridge, "", nil)},
	} {
		fmt.Fprintf(&b, "\n%s (`%s`):\n\n```\n%s```\n", e.title, e.command, e.rig.anonymous(Text(e.found)))
	}
	const file, mark = "../../../docs/doctor.md", "<!-- made by: go test ./internal/app/doctor -run TestExamples -update-doctor -->\n"
	text, err := os.ReadFile(file)
	must(t, err)
	head, _, ok := strings.Cut(string(text), mark)
	if !ok {
		t.Fatalf("%s has no mark", file)
	}
	fresh := head + mark + b.String()
	if *update {
		must(t, os.WriteFile(file, []byte(fresh), 0o644))
		return
	}
	if fresh != string(text) {
		t.Errorf("%s is stale; run go test ./internal/app/doctor -run TestExamples -update-doctor", file)
	}
}

// anonymous is a text without what is another at each run.
func (r *rig) anonymous(text string) string {
	for _, c := range [][2]string{{r.serve.Data, "/var/lib/davit"}, {r.ca, "/etc/davit/ca"}, {me(), "davit"}} {
		text = strings.ReplaceAll(text, c[0], c[1])
	}
	if len(r.bridge.Ports) > 0 {
		text = strings.ReplaceAll(text, r.bridge.Data, "/var/lib/davit-bridge")
		text = strings.ReplaceAll(text, r.bridge.Ports[0].Path, "/dev/ttyUSB0")
	}
	return regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`).ReplaceAllString(text, "2026-11-26 12:00:00 UTC")
}
