package app

import (
	"net/http"
	"testing"
)

// Profiles are served at their own address and at no other.
func TestProfilesHaveAnAddressOfTheirOwn(t *testing.T) {
	o := testOptions(t, t.TempDir())
	o.Pprof = "127.0.0.1:0"
	s, _ := startServer(t, o)
	for addr, want := range map[string]int{s.Addresses().Pprof: http.StatusOK, s.Addresses().HTTP: http.StatusNotFound} {
		resp, err := http.Get("http://" + addr + "/debug/pprof/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // only the status counts
		if resp.StatusCode != want {
			t.Errorf("%s answers %s, want %d", addr, resp.Status, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
