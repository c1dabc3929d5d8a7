package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

func TestCredentialsSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	c, err := OpenCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	pump, err := c.AddDevice("pump")
	if err != nil {
		t.Fatal(err)
	}
	rack, err := c.AddBridge("rack", []string{"b", "a"})
	if err != nil {
		t.Fatal(err)
	}
	if len(pump) < 26 || pump == rack {
		t.Errorf("passwords %q and %q", pump, rack)
	}
	info, err := os.Stat(filepath.Join(dir, CredentialsFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file mode %v, %v", info.Mode(), err)
	}
	data, err := os.ReadFile(filepath.Join(dir, CredentialsFile))
	if err != nil || strings.Contains(string(data), pump) || !strings.Contains(string(data), "$argon2id$v=19$") {
		t.Errorf("the file (%v) holds\n%s", err, data)
	}

	c, err = OpenCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []struct {
		login
		want verdict
	}{
		{login{"pump", pump}, verdictOK}, {login{"rack", rack}, verdictOK}, {login{"pump", rack}, verdictPassword},
		{login{"pump", ""}, verdictMissing}, {login{"pump", strings.Repeat("x", 1000)}, verdictMissing}, {login{"none", pump}, verdictUnknown},
	} {
		for range 2 { // the second answer comes from memory
			if _, v := c.authenticate(l.user, []byte(l.password)); v != l.want {
				t.Errorf("%s: %s, want %s", l.user, v, l.want)
			}
		}
	}
	p, _ := c.authenticate("rack", []byte(rack))
	if !p.owns("a") || !p.owns("b") || p.owns("rack") || p.owns("pump") {
		t.Errorf("rack acts for %v", p.devices)
	}
	want := []Principal{{"pump", PrincipalDevice, []string{"pump"}}, {"rack", PrincipalBridge, []string{"b", "a"}}}
	if got := c.List(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("List is %v", got)
	}
}

func TestCredentialsRefuse(t *testing.T) {
	c := credentials(t)
	if _, err := c.AddDevice("x"); err != nil {
		t.Fatal(err)
	}
	add := func(id string, devices ...string) error {
		_, err := c.AddBridge(id, devices)
		return err
	}
	_, again := c.AddDevice("x")
	_, noName := c.Rotate("y")
	for name, got := range map[string]struct{ err, want error }{
		"same name":          {again, ErrNameTaken},
		"bridge like device": {add("x", "a"), ErrNameTaken},
		"bad bridge id":      {add("a/b", "a"), schemas.ErrID},
		"bad device id":      {add("r", "a+"), schemas.ErrID},
		"rotate":             {noName, ErrNoPrincipal},
		"remove":             {c.Remove("y"), ErrNoPrincipal},
		"set devices":        {c.SetBridgeDevices("y", nil), ErrNoPrincipal},
		"set on a device":    {c.SetBridgeDevices("x", []string{"a"}), ErrNotBridge},
	} {
		if !errors.Is(got.err, got.want) {
			t.Errorf("%s: %v, want %v", name, got.err, got.want)
		}
	}
	if err := add("r", "a", "a"); err == nil {
		t.Error("a bridge with one device twice is accepted")
	}
	if l := c.List(); len(l) != 1 {
		t.Errorf("List is %v", l)
	}
}

// A change that cannot be written changes nothing.
func TestCredentialsNotWrittenNotChanged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sub")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := OpenCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	pw, err := c.AddDevice("x")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Rotate("x"); err == nil {
		t.Error("rotated without a folder")
	}
	if _, err := c.AddDevice("y"); err == nil {
		t.Error("added without a folder")
	}
	if _, v := c.authenticate("x", []byte(pw)); v != verdictOK || len(c.List()) != 1 {
		t.Errorf("the old password is %s, List %v", v, c.List())
	}
}

func TestCredentialsFileIsChecked(t *testing.T) {
	good := credentials(t)
	if _, err := good.AddDevice("x"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(good.path)
	if err != nil {
		t.Fatal(err)
	}
	var f fileFormat
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	hash := f.Principals[0].Hash
	file := func(records ...string) string {
		return `{"version":1,"principals":[` + strings.Join(records, ",") + `]}`
	}
	rec := func(name, kind, devices, hash string) string {
		return fmt.Sprintf(`{"name":%q,"kind":%q,"devices":%s,"hash":%q}`, name, kind, devices, hash)
	}
	remedies := map[string]string{"not JSON": "davit restore FILE --data NEW", "half of it": "is damaged", "version": "as new as the one that wrote it"}
	for name, content := range map[string]string{
		"not JSON":         `{`,
		"half of it":       string(data[:len(data)/2]),
		"version":          `{"version":2}`,
		"twice":            file(rec("x", "device", `["x"]`, hash), rec("x", "device", `["x"]`, hash)),
		"other's device":   file(rec("x", "device", `["y"]`, hash)),
		"kind":             file(rec("x", "toaster", `["x"]`, hash)),
		"name":             file(rec("x y", "device", `["x y"]`, hash)),
		"hash":             file(rec("x", "device", `["x"]`, "plain")),
		"memory of 4 GiB":  file(rec("x", "device", `["x"]`, strings.Replace(hash, "m=64", "m=4194304", 1))),
		"no iterations":    file(rec("x", "device", `["x"]`, strings.Replace(hash, "t=1", "t=0", 1))),
		"no lanes":         file(rec("x", "device", `["x"]`, strings.Replace(hash, "p=1", "p=0", 1))),
		"empty salt & key": file(rec("x", "device", `["x"]`, "$argon2id$v=19$m=64,t=1,p=1$$")),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, CredentialsFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenCredentials(dir); err == nil || !strings.Contains(err.Error(), CredentialsFile) || !strings.Contains(err.Error(), remedies[name]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Rotation, removal, other devices and an edited file end live connections at
// once; the old password is worth nothing although it was cached.
func TestChangesEndLiveConnections(t *testing.T) {
	change := map[string]func(c *Credentials) (string, error){
		"rotate": func(c *Credentials) (string, error) { return c.Rotate("rack") },
		"remove": func(c *Credentials) (string, error) { return "", c.Remove("rack") },
		"set devices": func(c *Credentials) (string, error) {
			return "same", c.SetBridgeDevices("rack", []string{"b"})
		},
		"reload": func(c *Credentials) (string, error) {
			if err := os.WriteFile(c.path, []byte(`{"version":1,"principals":[]}`), 0o600); err != nil {
				return "", err
			}
			return "", c.Reload()
		},
	}
	for name, do := range change {
		b := start(t, nil)
		creds := b.cfg.Credentials
		pw, err := creds.AddBridge("rack", []string{"a", "b"})
		if err != nil {
			t.Fatal(err)
		}
		other := connect(t, b.addr(), connectOptions{login: addDevice(t, b, "other")})
		rack := connect(t, b.addr(), connectOptions{login: login{"rack", pw}})
		rack.subscribe(1, topic("a", schemas.KindOffer), topic("b", schemas.KindOffer))
		fresh, err := do(creds)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if reason := rack.ended(); reason != packets.ErrAdministrativeAction.Code {
			t.Errorf("%s: DISCONNECT reason %#x", name, reason)
		}
		if fresh == "same" {
			fresh = pw
		}
		for password, want := range map[string]byte{pw: packets.ErrBadUsernameOrPassword.Code, fresh: 0} {
			if password == "" || password == pw && fresh == pw && want != 0 {
				continue
			}
			if _, ack := try(t, b.addr(), connectOptions{login: login{"rack", password}}); ack.ReasonCode != want {
				t.Errorf("%s: CONNACK %#x, want %#x", name, ack.ReasonCode, want)
			}
		}
		if name != "reload" {
			other.quiet()
		}
	}
}

// A storm of connects with right and wrong passwords runs Argon2 once for each
// distinct pair, on a bounded number of goroutines.
func TestVerificationIsBounded(t *testing.T) {
	c := credentials(t)
	pw, err := c.AddDevice("x")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	verdicts := make([]verdict, 400)
	for i := range verdicts {
		wg.Go(func() {
			password := pw
			if i%2 == 1 {
				password = fmt.Sprint("wrong", i%4)
			}
			_, verdicts[i] = c.authenticate("x", []byte(password))
		})
	}
	wg.Wait()
	for i, v := range verdicts {
		if want := []verdict{verdictOK, verdictPassword}[i%2]; v != want {
			t.Fatalf("%d: %s, want %s", i, v, want)
		}
	}
	for i := range maxFailures + 10 {
		c.verifier.remember("x", digest{byte(i), byte(i >> 8)}, false)
	}
	if n := len(c.verifier.failed); n > maxFailures {
		t.Errorf("%d failures remembered", n)
	}
}

func TestConcurrentChangesAllLand(t *testing.T) {
	c := credentials(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if _, err := c.AddDevice(fmt.Sprint("d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	again, err := OpenCredentials(filepath.Dir(c.path))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(again.List()); n != 16 {
		t.Errorf("%d principals on disk", n)
	}
	if !slices.IsSortedFunc(again.List(), func(a, b Principal) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("List is not in order")
	}
}
