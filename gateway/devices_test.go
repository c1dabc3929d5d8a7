package gateway_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"davit/orchestrator"
	"davit/schemas"
)

// TestDevicesAreListedWithDetails: a listing says of each device what GET of that
// device says.
func TestDevicesAreListedWithDetails(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	r.must("PATCH /v1/device-types/pump", `{"hello_timeout":"1ms"}`)
	r.must("POST /v1/groups", `{"id":"pair","devices":["pump-1","pump-2"]}`)
	r.must("POST /v1/groups", `{"id":"north","query":"label.site == \"north\""}`)
	img := r.image("1.0", []byte("firmware"))
	for _, job := range []string{"j1", "j2"} {
		r.must("POST /v1/jobs", fmt.Sprintf(`{"name":%q,"image":%q,"devices":["pump-1"],"start":true}`, job, img))
	}
	if err := r.service.Presence(t.Context(), "pump-2", true); err != nil {
		t.Fatal(err)
	}
	device := func(id string) (d orchestrator.DeviceDetail) {
		t.Helper()
		if err := json.Unmarshal([]byte(r.must("GET /v1/devices/"+id, "").body), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	eventually(t, func() bool { return device("pump-2").Silent })

	var page struct {
		Items []orchestrator.DeviceDetail
	}
	if err := json.Unmarshal([]byte(r.must("GET /v1/devices", "").body), &page); err != nil || len(page.Items) != 2 {
		t.Fatalf("%d devices: %v", len(page.Items), err)
	}
	one, two := page.Items[0], page.Items[1]
	if x := one.Execution; x == nil || x.Job != "j1" || x.State != schemas.StateOffered || one.Waiting != 1 || one.Silent || !slices.Equal(one.Groups, []string{"pair"}) {
		t.Errorf("the first is %+v, %+v", one, x)
	}
	if two.Execution != nil || two.Waiting != 0 || !two.Silent || !slices.Equal(two.Groups, []string{"north", "pair"}) {
		t.Errorf("the second is %+v", two)
	}
	var rest struct {
		Items []map[string]any
		Next  string
	}
	if err := json.Unmarshal([]byte(r.must("GET /v1/devices?label=site&limit=1", "").body), &rest); err != nil || len(rest.Items) != 1 || rest.Items[0]["id"] != "pump-2" {
		t.Errorf("by label: %+v, %v", rest, err)
	}
}
