package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"

	"davit/gateway"
)

// credentialsIn reads the credentials of an answer.
func credentialsIn(t *testing.T, a answer) gateway.DeviceCredentials {
	t.Helper()
	var c gateway.DeviceCredentials
	if err := json.Unmarshal([]byte(a.body), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestDeviceSurvivesCrashes breaks adding and removing a device off between
// and after its two records: repeating the request always heals.
func TestDeviceSurvivesCrashes(t *testing.T) {
	const add = `{"id":"p","type":"pump","labels":{"site":"north"}}`
	for _, failure := range []struct {
		name          string
		before, after bool
	}{{"credential not written", true, false}, {"credential written, answer lost", false, true}} {
		t.Run(failure.name, func(t *testing.T) {
			r := newAPI(t, nil)
			r.catalog()
			r.credentials.fail(failure.before, failure.after)
			if a := r.do("POST /v1/devices", add); a.status != 500 {
				t.Fatalf("adding with a failure: %d %s", a.status, a.body)
			}
			r.credentials.fail(false, false)
			if a := r.do("POST /v1/devices", `{"id":"p","type":"pump","labels":{"site":"south"}}`); a.status != 409 {
				t.Errorf("adding another device under the id: %d %s", a.status, a.body)
			}
			again := r.do("POST /v1/devices", add)
			if failure.after {
				// The device is complete; only its password is unknown to the client.
				if again.status != 409 {
					t.Errorf("adding a complete device again: %d %s", again.status, again.body)
				}
				again = r.must("POST /v1/devices/p/credentials", "")
			}
			if c := credentialsIn(t, again); again.status >= 300 || c.Username != "p" || c.Password == "" || c.Device.Labels["site"] != "north" {
				t.Errorf("the repeated request: %d %s", again.status, again.body)
			}
			r.credentials.fail(failure.before, failure.after)
			if a := r.do("DELETE /v1/devices/p", ""); a.status != 500 {
				t.Errorf("removing with a failure: %d %s", a.status, a.body)
			}
			r.credentials.fail(false, false)
			want := 204
			if failure.after {
				want = 404 // it was removed completely
			}
			if a := r.do("DELETE /v1/devices/p", ""); a.status != want {
				t.Errorf("removing again: %d %s, want %d", a.status, a.body, want)
			}
			if _, left := r.credentials.principals["p"]; left {
				t.Error("the credential is left over")
			}
			if a := r.do("GET /v1/devices/p", ""); a.status != 404 {
				t.Errorf("the removed device: %d", a.status)
			}
			r.must("POST /v1/devices", add)
		})
	}
}

// TestOrphanedCredentialIsReplaced: a removal that broke off leaves a
// credential, and adding the device again gives a new password.
func TestOrphanedCredentialIsReplaced(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	r.credentials.fail(true, false)
	if a := r.do("DELETE /v1/devices/pump-1", ""); a.status != 500 {
		t.Fatalf("removing with a failure: %d", a.status)
	}
	r.credentials.fail(false, false)
	if c := credentialsIn(t, r.must("POST /v1/devices", `{"id":"pump-1","type":"pump"}`)); c.Password != "planted-secret-password-3" {
		t.Errorf("got %+v, want the third password issued", c)
	}
}

func TestBridges(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	a := r.must("POST /v1/bridges", `{"id":"rack-1","devices":["pump-1","pump-2"]}`)
	if a.status != 201 || !strings.Contains(a.body, `"password":"planted-secret-password-3"`) || a.header.Get("Location") != "/v1/bridges/rack-1" {
		t.Errorf("created: %d %s %v", a.status, a.body, a.header)
	}
	r.must("POST /v1/bridges", `{"id":"rack-2","devices":["pump-1"]}`)
	r.must("POST /v1/bridges", `{"id":"rack-3","devices":["pump-2"]}`)
	if a := r.do("POST /v1/bridges", `{"id":"rack-1","devices":["pump-1"]}`); a.status != 409 {
		t.Errorf("twice: %d %s", a.status, a.body)
	}
	if a := r.do("POST /v1/devices", `{"id":"rack-1","type":"pump"}`); a.status != 409 || !strings.Contains(a.body, "bridge") {
		t.Errorf("a device under a bridge's id: %d %s", a.status, a.body)
	}
	if a := r.must("GET /v1/bridges?limit=2", ""); a.body != `{"items":[{"id":"rack-1","devices":["pump-1","pump-2"]},{"id":"rack-2","devices":["pump-1"]}],"next":"rack-2"}`+"\n" {
		t.Errorf("first page: %s", a.body)
	}
	if a := r.must("GET /v1/bridges?after=rack-2", ""); a.body != `{"items":[{"id":"rack-3","devices":["pump-2"]}]}`+"\n" {
		t.Errorf("last page: %s", a.body)
	}
	if a := r.must("POST /v1/bridges/rack-1/credentials", ""); !strings.Contains(a.body, `"password":"planted-secret-password-6"`) {
		t.Errorf("rotated: %s", a.body)
	}
	if a := r.do("DELETE /v1/devices/rack-1", ""); a.status != 404 {
		t.Errorf("removing a bridge as a device: %d", a.status)
	}
	r.must("DELETE /v1/bridges/rack-1", "")
	if a := r.do("DELETE /v1/bridges/rack-1", ""); a.status != 404 {
		t.Errorf("removing a bridge twice: %d", a.status)
	}
}
