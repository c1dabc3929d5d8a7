package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"

	"davit/gateway"
	"davit/orchestrator"
	"davit/orchestrator/fileblobs"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

// TestClaimSurvivesCrashes breaks a claim off between and after its two records: the same
// request gets a password and counts once, until somebody has logged in.
func TestClaimSurvivesCrashes(t *testing.T) {
	const request = `{"v":1,"nonce":"QJ7S4M2KX5T6W3RA"}`
	for name, failure := range map[string][2]bool{"credential not written": {true, false}, "credential written, answer lost": {false, true}} {
		t.Run(name, func(t *testing.T) {
			r := newAPI(t, nil)
			r.catalog()
			r.must("POST /v1/claims", `{"id":"line-1","device_type":"pump"}`)
			claims := gateway.NewClaims(gateway.NewProvisioner(r.service, r.credentials), nil, slog.New(slog.DiscardHandler))
			ask := func(device, body string) schemas.Claimed {
				t.Helper()
				a := claims.Answer(context.Background(), "line-1", device, "192.0.2.1:1", []byte(body))
				if _, err := schemas.Encode(&a); err != nil {
					t.Errorf("the answer is outside the contract: %v", err)
				}
				return a
			}
			r.credentials.fail(failure[0], failure[1])
			if a := ask("p", request); a.Error != schemas.ErrorInternal {
				t.Fatalf("with a failure: %+v", a)
			}
			r.credentials.fail(false, false)
			if a := ask("p", request); a.Device != "p" || a.Password == "" {
				t.Errorf("repeated: %+v", a)
			}
			r.credentials.used = map[string]bool{"p": true}
			if a := ask("p", request); a.Error != schemas.ErrorExists {
				t.Errorf("after a login: %+v", a)
			}
			if c, err := r.service.Claim(t.Context(), "line-1"); err != nil || c.Used != 1 {
				t.Errorf("%+v, %v", c, err)
			}
			if a := ask("p", `{"v":1}`); a.Error != schemas.ErrorMalformed || a.Nonce != "" {
				t.Errorf("malformed: %+v", a)
			}
			entries, _, err := r.service.AuditEntries(t.Context(), orchestrator.AuditFilter{Kind: orchestrator.KindDevice, ID: "p", Action: "claim"}, orchestrator.Page{})
			if err != nil || len(entries) != 1 || entries[0].Actor.Name != "claim:line-1" || entries[0].Actor.Kind != orchestrator.ActorModule || entries[0].Actor.Address != "192.0.2.1:1" {
				t.Errorf("%+v, %v", entries, err)
			}
		})
	}
}

// A module whose claim was made while the clock was ahead is let in, to be told that it may
// ask again: a login would be refused for good.
func TestClaimOfAnAheadClock(t *testing.T) {
	blobs, err := fileblobs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ahead := 24 * time.Hour
	service, err := orchestrator.New(orchestrator.Options{Store: memstore.New(), Blobs: blobs, Publisher: nowhere{}, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().Add(ahead) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := service.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "pump", Dialect: "ayla"}); err != nil {
		t.Fatal(err)
	}
	made, err := service.CreateClaim(ctx, orchestrator.NewClaim{ID: "line-1", DeviceType: "pump"})
	if err != nil {
		t.Fatal(err)
	}
	ahead = 0
	claims := gateway.NewClaims(gateway.NewProvisioner(service, &fakeCredentials{}), nil, slog.New(slog.DiscardHandler))
	if err := claims.Admit(ctx, "line-1", made.Token, "p"); err != nil {
		t.Error(err)
	}
	if err := claims.Admit(ctx, "line-1", made.Token+"x", "p"); !errors.Is(err, orchestrator.ErrClaimToken) {
		t.Errorf("with another token: %v", err)
	}
	a := claims.Answer(ctx, "line-1", "p", "192.0.2.1:1", []byte(`{"v":1,"nonce":"QJ7S4M2KX5T6W3RA"}`))
	if !a.Error.Temporary() || a.Password != "" {
		t.Errorf("%+v", a)
	}
}

// Passwords that were made in the future, as the clock has it, are due by age; those of a
// clock that NTP set back by a little are not.
func TestRotationByAgeOfAnAheadClock(t *testing.T) {
	r := newAPI(t, nil)
	now := time.Now()
	for name, since := range map[string]time.Time{"young": now.Add(-time.Hour), "old": now.Add(-3 * time.Hour), "nudged": now.Add(4 * time.Minute), "ahead": now.AddDate(1, 0, 0)} {
		r.credentials.principals[name] = gateway.Principal{Name: name}
		r.credentials.logins[name] = gateway.LoginState{PasswordSince: since}
	}
	n, err := gateway.NewProvisioner(r.service, r.credentials).OrderRotation(t.Context(), gateway.NewRotation{AllDevices: true, OlderThan: orchestrator.Duration(2 * time.Hour)})
	if err != nil || n.Ordered != 2 {
		t.Errorf("%+v, %v", n, err)
	}
	for name, l := range r.credentials.logins {
		if due := name == "old" || name == "ahead"; due == l.RotateOrdered.IsZero() {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// A bridge's id is nobody's to claim, and nothing is made or counted for it.
func TestBridgeIsNotClaimed(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	r.must("POST /v1/devices", `{"id":"d","type":"pump"}`)
	r.must("POST /v1/bridges", `{"id":"rack","devices":["d"]}`)
	r.must("POST /v1/claims", `{"id":"line-1","device_type":"pump"}`)
	claims := gateway.NewClaims(gateway.NewProvisioner(r.service, r.credentials), nil, slog.New(slog.DiscardHandler))
	if a := claims.Answer(t.Context(), "line-1", "rack", "", []byte(`{"v":1,"nonce":"QJ7S4M2KX5T6W3RA"}`)); a.Error != schemas.ErrorExists {
		t.Errorf("%+v", a)
	}
	var c gateway.ClaimView
	if err := json.Unmarshal([]byte(r.must("GET /v1/claims/line-1", "").body), &c); err != nil || c.Used != 0 || c.State != orchestrator.ClaimActive {
		t.Errorf("%+v, %v", c, err)
	}
}
