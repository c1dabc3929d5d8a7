package web

import (
	"net/http"
	"strings"
	"testing"

	"davit/gateway/people"
)

// TestBridgeDevices: the page of a bridge adds devices and takes them off, and says
// at the form what is wrong.
func TestBridgeDevices(t *testing.T) {
	r := newRig(t)
	r.start()
	r.seed()
	operator := people.RoleOperator
	wants(t, r.post(operator, "/bridges", "id", "rack", "devices", "lab-00\nlab-01"), http.StatusOK, "planted-secret-password-")
	wants(t, r.get(operator, "/bridges/rack"), http.StatusOK, "Acts for 2 devices", `name="remove" value="lab-00"`, `action="/bridges/rack/devices"`)
	if w := r.get(people.RoleViewer, "/bridges/rack"); strings.Contains(w.Body.String(), "<textarea") || strings.Contains(w.Body.String(), `name="remove"`) {
		t.Error("a viewer is shown the form")
	}
	wants(t, r.post(people.RoleViewer, "/bridges/rack/devices", "remove", "lab-00"), http.StatusForbidden)

	leads(t, r.post(operator, "/bridges/rack/devices", "remove", "lab-00", "devices", "lab-02, lab-03\nlab-01"), "/bridges/rack", "acts for 3 devices")
	w := r.get(operator, "/bridges/rack")
	wants(t, w, http.StatusOK, `href="/devices/lab-01"`, `href="/devices/lab-02"`, `href="/devices/lab-03"`)
	if strings.Contains(w.Body.String(), "lab-00") {
		t.Error("lab-00 is still on the page")
	}
	wants(t, r.post(operator, "/bridges/rack/devices", "remove", "lab-01", "devices", "nowhere-1"), http.StatusUnprocessableEntity,
		"There is no device", "\nnowhere-1</textarea>", `value="lab-01" checked`, "Acts for 3 devices")
	wants(t, r.post(operator, "/bridges/none/devices", "devices", "lab-01"), http.StatusNotFound, "does not exist")
	leads(t, r.post(operator, "/bridges/rack/devices", "remove", "lab-01", "remove", "lab-02", "remove", "lab-03"), "/bridges/rack", "acts for 0 devices")
	wants(t, r.get(operator, "/bridges/rack"), http.StatusOK, "No device is its own")
	wants(t, r.get(people.RoleAdmin, "/audit?kind=bridge&id=rack&action=update"), http.StatusOK, "the-operator", "lab-03")
}
