package web

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"davit/gateway/people"
)

// TestClaims: a claim is made on its page, which shows its token once, and revoked there.
func TestClaims(t *testing.T) {
	r := newRig(t)
	r.start()
	r.seed()
	operator := people.RoleOperator
	wants(t, r.get(operator, "/claims"), http.StatusOK, "No claims yet", `action="/claims"`)
	w := r.post(operator, "/claims", "id", "line-1", "device_type", "thermostat", "uses", "20", "expires", "24h", "devices", "lab-*", "labels", "site=berlin")
	wants(t, w, http.StatusOK, "This token is shown only now", "20 devices", "claim:line-1", "lab-*")
	if !regexp.MustCompile(`davit_claim_line-1_[A-Z0-9]{52}`).MatchString(w.Body.String()) {
		t.Error("the token is not shown")
	}
	w = r.get(people.RoleViewer, "/claims")
	wants(t, w, http.StatusOK, "line-1", "0 of 20", "active")
	for _, hidden := range []string{"davit_claim_line-1", `action="/claims"`, "/claims/line-1/revoke"} {
		if strings.Contains(w.Body.String(), hidden) {
			t.Errorf("a viewer is shown %s", hidden)
		}
	}
	for field, pairs := range map[string][]string{
		"uses": {"id", "line-2", "device_type", "thermostat", "uses", "none", "expires", "24h"}, "labels": {"id", "line-2", "device_type", "thermostat", "uses", "1", "expires", "24h", "labels", "=x"},
		"device_type": {"id", "line-2", "device_type", "none", "uses", "1", "expires", "24h"}, "expires": {"id", "line-2", "device_type", "thermostat", "uses", "1", "expires", "soon"},
	} {
		if w := r.post(operator, "/claims", pairs...); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", field, w.Code)
		}
	}
	wants(t, r.post(people.RoleViewer, "/claims/line-1/revoke"), http.StatusForbidden)
	leads(t, r.post(operator, "/claims/line-1/revoke"), "/claims", "Claim line-1 is revoked")
	w = r.get(operator, "/claims")
	wants(t, w, http.StatusOK, "revoked")
	if strings.Contains(w.Body.String(), "/claims/line-1/revoke") {
		t.Error("it can be revoked twice")
	}
	wants(t, r.post(operator, "/claims", "id", "line-2", "device_type", "thermostat", "unlimited", "on", "expires", "24h"), http.StatusOK, "any number of devices")
	r.console.now = func() time.Time { return time.Now().Add(-12 * time.Hour) } // made by a clock that was ahead
	wants(t, r.get(operator, "/claims"), http.StatusOK, "not yet", "/claims/line-2/revoke")
}
