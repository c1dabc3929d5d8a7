package orchestrator_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"davit/internal/clock"
	"davit/orchestrator"
	"davit/schemas"
)

const nonce = "QJ7S4M2KX5T6W3RA"

// claimRig is a service with a device type, a group and a clock.
func claimRig(t *testing.T) (*env, *time.Time) {
	now := epoch
	e := newEnv(t, func(o *orchestrator.Options) { o.Now = func() time.Time { return now } })
	t.Cleanup(func() { e.checkClean() })
	e.fleet(1)
	must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "factory"}))
	return e, &now
}

func claimed(e *env, claim, device string, request schemas.Claim) (bool, error) {
	request.V = 1
	if request.Nonce == "" {
		request.Nonce = nonce
	}
	_, repeated, err := e.ClaimDevice(ctx, claim, device, request)
	return repeated, err
}

// refusedFor fails the test unless err is a refusal of the claim for the reason.
func refusedFor(t *testing.T, err error, reason schemas.RequestError) {
	t.Helper()
	var refused *orchestrator.ClaimError
	if !errors.As(err, &refused) || refused.Reason != reason {
		t.Errorf("%v, want %s", err, reason)
	}
}

func TestClaimMakesADevice(t *testing.T) {
	e, now := claimRig(t)
	made := must[orchestrator.ClaimSecret](t)(e.CreateClaim(ctx, orchestrator.NewClaim{
		ID: "line-1", DeviceType: "pump", Devices: "pump-*", Labels: map[string]string{"site": "berlin"}, Groups: []string{"factory"}}))
	if !strings.HasPrefix(made.Token, "davit_claim_line-1_") || made.Uses != 1 || !made.ExpiresAt.Equal(now.Add(orchestrator.ClaimDefault)) {
		t.Errorf("%+v", made)
	}
	e.ok(e.CheckClaim(ctx, "line-1", made.Token, "pump-7"))
	for claim, token := range map[string]string{"line-1": made.Token + "x", "line-2": made.Token, "": "", "line-3": ""} {
		if err := e.CheckClaim(ctx, claim, token, "pump-7"); !errors.Is(err, orchestrator.ErrClaimToken) {
			t.Errorf("%s: %v", claim, err)
		}
	}
	refusedFor(t, e.CheckClaim(ctx, "line-1", made.Token, "fan-7"), schemas.ErrorNotAllowed)
	_, err := claimed(e, "line-1", "fan-7", schemas.Claim{})
	refusedFor(t, err, schemas.ErrorNotAllowed)
	_, err = claimed(e, "line-1", "pump-7", schemas.Claim{DeviceType: "fan"})
	refusedFor(t, err, schemas.ErrorDeviceType)

	if repeated, err := claimed(e, "line-1", "pump-7", schemas.Claim{DeviceType: "pump"}); err != nil || repeated {
		t.Fatal(repeated, err)
	}
	d := must[orchestrator.DeviceDetail](t)(e.DeviceDetail(ctx, "pump-7"))
	if d.Type != "pump" || d.Labels["site"] != "berlin" || fmt.Sprint(d.Groups) != "[factory]" || d.Claim != "line-1" {
		t.Errorf("%+v", d)
	}
	c := must[orchestrator.Claim](t)(e.Claim(ctx, "line-1"))
	if c.Used != 1 || c.State(*now) != orchestrator.ClaimUsedUp || !c.LastUsedAt.Equal(*now) {
		t.Errorf("%+v", c)
	}
	refusedFor(t, e.CheckClaim(ctx, "line-1", made.Token, "pump-8"), schemas.ErrorUsedUp)
	e.ok(e.CheckClaim(ctx, "line-1", made.Token, "pump-7")) // its answer may be lost
}

// A claim that was made while the clock was ahead is shown as what it is: nothing is made
// with it until that time has come.
func TestClaimStateOfAnAheadClock(t *testing.T) {
	e, now := claimRig(t)
	made := must[orchestrator.ClaimSecret](t)(e.CreateClaim(ctx, orchestrator.NewClaim{ID: "line-1", DeviceType: "pump"}))
	for ahead, want := range map[time.Duration]orchestrator.ClaimState{
		0: orchestrator.ClaimActive, clock.Slack: orchestrator.ClaimActive, clock.Slack + time.Second: orchestrator.ClaimNotYet, 24 * time.Hour: orchestrator.ClaimNotYet,
	} {
		*now = epoch.Add(-ahead)
		if c := must[orchestrator.Claim](t)(e.Claim(ctx, "line-1")); c.State(*now) != want {
			t.Errorf("%v ahead of the clock it is %s, want %s", ahead, c.State(*now), want)
		}
		if err := e.CheckClaim(ctx, "line-1", made.Token, "pump-7"); (err == nil) != (want == orchestrator.ClaimActive) {
			t.Errorf("%v ahead: %v", ahead, err)
		}
	}
	must[orchestrator.Claim](t)(e.RevokeClaim(ctx, "line-1"))
	if c := must[orchestrator.Claim](t)(e.Claim(ctx, "line-1")); c.State(*now) != orchestrator.ClaimRevoked {
		t.Errorf("revoked, it is %s", c.State(*now))
	}
}

// The same nonce is the same request; another one, or another claim, is somebody else's.
func TestClaimRepeated(t *testing.T) {
	e, now := claimRig(t)
	for _, id := range []string{"line-1", "line-2"} {
		must[orchestrator.ClaimSecret](t)(e.CreateClaim(ctx, orchestrator.NewClaim{ID: id, DeviceType: "pump", Uses: 5}))
	}
	if repeated, err := claimed(e, "line-1", "pump-7", schemas.Claim{}); err != nil || repeated {
		t.Fatal(repeated, err)
	}
	if repeated, err := claimed(e, "line-1", "pump-7", schemas.Claim{}); err != nil || !repeated {
		t.Fatal(repeated, err)
	}
	if c := must[orchestrator.Claim](t)(e.Claim(ctx, "line-1")); c.Used != 1 {
		t.Errorf("%d uses are counted", c.Used)
	}
	_, err := claimed(e, "line-1", "pump-7", schemas.Claim{Nonce: strings.ToLower(nonce)})
	refusedFor(t, err, schemas.ErrorExists)
	_, err = claimed(e, "line-2", "pump-7", schemas.Claim{})
	refusedFor(t, err, schemas.ErrorExists)
	_, err = claimed(e, "line-1", "d000", schemas.Claim{}) // which people made
	refusedFor(t, err, schemas.ErrorExists)

	must[orchestrator.Device](t)(e.QuarantineDevice(ctx, "pump-7", ""))
	_, err = claimed(e, "line-1", "pump-7", schemas.Claim{})
	refusedFor(t, err, schemas.ErrorQuarantined)

	// A device that was deleted is another one, and another use.
	e.ok(e.DeleteDevice(ctx, "pump-7"))
	if repeated, err := claimed(e, "line-1", "pump-7", schemas.Claim{}); err != nil || repeated {
		t.Fatal(repeated, err)
	}
	if c := must[orchestrator.Claim](t)(e.Claim(ctx, "line-1")); c.Used != 2 {
		t.Errorf("%d uses are counted", c.Used)
	}
	*now = now.Add(orchestrator.ClaimDefault)
	_, err = claimed(e, "line-1", "pump-7", schemas.Claim{})
	refusedFor(t, err, schemas.ErrorExpired)
	_, err = claimed(e, "nobody's", "pump-7", schemas.Claim{})
	refusedFor(t, err, schemas.ErrorRevoked)
}

// However many come at once, there are as many devices as there are uses.
func TestClaimRace(t *testing.T) {
	e, _ := claimRig(t)
	must[orchestrator.ClaimSecret](t)(e.CreateClaim(ctx, orchestrator.NewClaim{ID: "line-1", DeviceType: "pump", Uses: 10}))
	var race sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for i := range 100 {
		race.Go(func() {
			_, err := claimed(e, "line-1", fmt.Sprint("pump-", i), schemas.Claim{})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else {
				refusedFor(t, err, schemas.ErrorUsedUp)
			}
		})
	}
	race.Wait()
	devices, _, err := e.Devices(ctx, orchestrator.DeviceFilter{Text: "pump-"}, orchestrator.Page{})
	e.ok(err)
	if made != 10 || len(devices) != 10 {
		t.Errorf("%d were granted, %d devices exist; want 10", made, len(devices))
	}
}

func TestClaimRevoked(t *testing.T) {
	e, now := claimRig(t)
	made := must[orchestrator.ClaimSecret](t)(e.CreateClaim(ctx, orchestrator.NewClaim{ID: "line-1", DeviceType: "pump", Unlimited: true, Groups: []string{"factory"}}))
	for i := range 3 {
		if _, err := claimed(e, "line-1", fmt.Sprint("pump-", i), schemas.Claim{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.DeleteGroup(ctx, "factory"); !errors.Is(err, orchestrator.ErrConflict) {
		t.Errorf("a group that a claim needs is deleted: %v", err)
	}
	for range 2 {
		c := must[orchestrator.Claim](t)(e.RevokeClaim(ctx, "line-1"))
		if c.State(*now) != orchestrator.ClaimRevoked || c.Used != 3 || c.Revision != 5 {
			t.Errorf("%+v", c)
		}
	}
	refusedFor(t, e.CheckClaim(ctx, "line-1", made.Token, "pump-0"), schemas.ErrorRevoked)
	_, err := claimed(e, "line-1", "pump-0", schemas.Claim{}) // on a connection that was let in before
	refusedFor(t, err, schemas.ErrorRevoked)
	e.ok(e.DeleteGroup(ctx, "factory"))
	entries, _, err := e.AuditEntries(ctx, orchestrator.AuditFilter{Kind: orchestrator.KindClaim}, orchestrator.Page{})
	if err != nil || len(entries) != 2 || entries[0].Action != "revoke" {
		t.Errorf("%+v, %v", entries, err)
	}
}

// A claim that was made while the clock was ahead does not last longer: it is refused until
// its making is past, and not for good, for the module would forget it.
func TestClaimOfAnAheadClock(t *testing.T) {
	e, now := claimRig(t)
	right := *now
	*now = right.AddDate(1, 0, 0)
	made := must[orchestrator.ClaimSecret](t)(e.CreateClaim(ctx, orchestrator.NewClaim{ID: "line-1", DeviceType: "pump"}))
	*now = right
	refusedFor(t, e.CheckClaim(ctx, "line-1", made.Token, "pump-7"), schemas.ErrorBusy)
	_, err := claimed(e, "line-1", "pump-7", schemas.Claim{}) // on a connection that was let in before
	refusedFor(t, err, schemas.ErrorBusy)
	*now = right.AddDate(1, 0, 0).Add(-5 * time.Minute) // as NTP may set it back
	e.ok(e.CheckClaim(ctx, "line-1", made.Token, "pump-7"))
	if _, err := claimed(e, "line-1", "pump-7", schemas.Claim{}); err != nil {
		t.Error(err)
	}
}

func TestClaimIsRefused(t *testing.T) {
	e, _ := claimRig(t)
	must[orchestrator.Group](t)(e.CreateGroup(ctx, orchestrator.NewGroup{ID: "dynamic", Query: "online"}))
	must[orchestrator.ClaimSecret](t)(e.CreateClaim(ctx, orchestrator.NewClaim{ID: "taken", DeviceType: "pump"}))
	for field, n := range map[string]orchestrator.NewClaim{
		"id": {ID: "a b", DeviceType: "pump"}, "device_type": {ID: "c", DeviceType: "none"}, "devices": {ID: "c", DeviceType: "pump", Devices: "[a"},
		"labels": {ID: "c", DeviceType: "pump", Labels: map[string]string{"": "x"}}, "groups/0": {ID: "c", DeviceType: "pump", Groups: []string{"none"}},
		"groups/1": {ID: "c", DeviceType: "pump", Groups: []string{"factory", "dynamic"}}, "uses": {ID: "c", DeviceType: "pump", Uses: -1},
		"expires": {ID: "c", DeviceType: "pump", Expires: orchestrator.Duration(orchestrator.ClaimLongest + 1)},
	} {
		_, err := e.CreateClaim(ctx, n)
		var in *orchestrator.FieldError
		if !errors.As(err, &in) || in.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, n := range []orchestrator.NewClaim{{ID: "taken", DeviceType: "pump"}, {ID: "c", DeviceType: "pump", Uses: 2, Unlimited: true}, {ID: "c", DeviceType: "pump", Uses: orchestrator.MaxClaimUses + 1}} {
		if _, err := e.CreateClaim(ctx, n); err == nil {
			t.Errorf("%+v is taken", n)
		}
	}
}

// What is kept of a token gives it away nowhere: neither records nor the feed have it.
func TestClaimTokenIsNowhere(t *testing.T) {
	e, _ := claimRig(t)
	made := must[orchestrator.ClaimSecret](t)(e.CreateClaim(ctx, orchestrator.NewClaim{ID: "line-1", DeviceType: "pump"}))
	secret := strings.TrimPrefix(made.Token, "davit_claim_line-1_")
	e.ok(e.store.View(ctx, func(r orchestrator.Reader) error {
		for _, table := range []orchestrator.Table{"claims", "claim_hashes", "audit", "events", "idempotency"} {
			if err := r.Scan(table, nil, nil, func(k, v []byte) bool {
				if strings.Contains(string(k)+string(v), secret) {
					t.Errorf("table %s has the token", table)
				}
				return true
			}); err != nil {
				return err
			}
		}
		return nil
	}))
	feed := must[orchestrator.Feed](t)(e.Events(ctx, 0, orchestrator.FeedFilter{Kinds: []string{orchestrator.KindClaim}}, 0, 0))
	if len(feed.Events) != 1 || strings.Contains(fmt.Sprintf("%s", feed.Events[0].Record), "hash") {
		t.Errorf("%+v", feed)
	}
}
