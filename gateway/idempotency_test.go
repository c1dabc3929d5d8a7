package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestCreationsHappenOnce repeats every creation with the same key, as a client
// does that never saw the answer: the record is there once.
func TestCreationsHappenOnce(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	image := r.image("1.0", []byte("firmware"))
	var upload struct{ ID string }
	if err := json.Unmarshal([]byte(r.must("POST /v1/uploads?format=binary", "more firmware").body), &upload); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, body, other string }{
		{"/v1/image-types", `{"id":"boot"}`, `{"id":"boot2"}`},
		{"/v1/device-types", `{"id":"fan","dialect":"ayla"}`, `{"id":"fan2","dialect":"ayla"}`},
		{"/v1/devices", `{"id":"d","type":"pump"}`, `{"id":"d2","type":"pump"}`},
		{"/v1/groups", `{"id":"g","devices":["pump-1"]}`, `{"id":"g","devices":["pump-2"]}`},
		{"/v1/jobs", `{"name":"j","image":"` + image + `","devices":["pump-1"]}`, `{"name":"j","image":"` + image + `","devices":["pump-2"]}`},
		{"/v1/images?image_type=app&device_type=pump&version=2&format=binary", "bytes", "other bytes"},
		{"/v1/uploads/" + upload.ID + "/image", `{"image_type":"app","device_types":["pump"],"version":"3"}`, `{"image_type":"app","device_types":["pump"],"version":"4"}`},
		{"/v1/users", `{"name":"eve","role":"viewer"}`, `{"name":"eve","role":"admin"}`},
	} {
		path, _, _ := strings.Cut(c.path, "?")
		first := r.ask("POST "+c.path, c.body, "Idempotency-Key: key")
		if first.status != 201 || first.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%s: %d %v %s", path, first.status, first.header, first.body)
			continue
		}
		rev, err := r.service.LastRev(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		again := r.ask("POST "+c.path, c.body, "Idempotency-Key: key")
		if again.status != 201 || again.header.Get("Idempotency-Replayed") != "true" || again.header.Get("Location") != first.header.Get("Location") {
			t.Errorf("%s again: %d %v %s", path, again.status, again.header, again.body)
		}
		if a := r.ask("POST "+c.path, c.other, "Idempotency-Key: key"); a.status != 422 || !strings.Contains(a.problem(t).Detail, "new key") {
			t.Errorf("%s, another request with the key: %d %s", path, a.status, a.body)
		}
		if now, err := r.service.LastRev(t.Context()); err != nil || now != rev {
			t.Errorf("%s: the repetitions changed something: revision %d, then %d (%v)", path, rev, now, err)
		}
	}
	password := r.ask("POST /v1/devices", `{"id":"d","type":"pump"}`, "Idempotency-Key: key")
	if c := credentialsIn(t, password); c.Password != "" || !strings.Contains(c.Note, "/v1/devices/d/credentials") {
		t.Errorf("a repetition shows a password, or not how to get one: %s", password.body)
	}
	r.must("DELETE /v1/devices/d", "")
	if a := r.ask("POST /v1/devices", `{"id":"d","type":"pump"}`, "Idempotency-Key: key"); a.status != http.StatusConflict || !strings.Contains(a.problem(t).Detail, "new key") {
		t.Errorf("the key of a device that is gone: %d %s", a.status, a.body)
	}
}

// TestConcurrentCreations: of many requests with the same key one creates.
func TestConcurrentCreations(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	const n = 16
	answers := make([]answer, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			answers[i] = r.ask("POST /v1/devices", `{"id":"d","type":"pump"}`, "Idempotency-Key: key")
		})
	}
	all.Wait()
	passwords := 0
	for _, a := range answers {
		if a.status != 201 {
			t.Errorf("%d %s", a.status, a.body)
		} else if credentialsIn(t, a).Password != "" {
			passwords++
		}
	}
	if passwords != 1 {
		t.Errorf("%d answers carry a password", passwords)
	}
}

// TestKeyOfACreationThatBrokeOff: the record was committed, the power failed
// before the credentials; the repetition finishes it.
func TestKeyOfACreationThatBrokeOff(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	r.credentials.fail(true, false)
	if a := r.ask("POST /v1/devices", `{"id":"d","type":"pump"}`, "Idempotency-Key: key"); a.status != 500 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	r.credentials.fail(false, false)
	if a := r.ask("POST /v1/devices", `{"id":"d","type":"pump"}`, "Idempotency-Key: key"); a.status != 201 || credentialsIn(t, a).Password == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
}
