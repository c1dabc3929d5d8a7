package gateway

import (
	"fmt"
	"testing"
	"time"

	"davit/gateway/people"
)

// Requests at a time are bounded for each who makes them and for all, what is remembered
// of those who make them is bounded, and nothing is left when they are answered.
func TestRequestsAtOnce(t *testing.T) {
	tr := newTraffic(1_000_000)
	now := time.Now()
	ann := &people.Principal{User: "ann", Token: "tok"}
	var leaves []func()
	enter := func(who *people.Principal, address string) string {
		leave, over := tr.enter(who, address, now)
		if over != nil {
			return over.limit
		}
		leaves = append(leaves, leave)
		return ""
	}
	for i := range maxStrangersAtOnce + 1 {
		if got := enter(nil, "192.0.2.1"); (got != "") != (i == maxStrangersAtOnce) || got != "" && got != "requests_at_once" {
			t.Fatalf("request %d of an address: %q", i, got)
		}
	}
	// All of an IPv6 network of 64 bits is one.
	for i := range maxStrangersAtOnce + 1 {
		if got := enter(nil, fmt.Sprintf("2001:db8::%x", i+1)); (got != "") != (i == maxStrangersAtOnce) {
			t.Fatalf("request %d of a network: %q", i, got)
		}
	}
	for i := range maxAtOnce + 1 {
		if got := enter(ann, "192.0.2.1"); (got != "") != (i == maxAtOnce) {
			t.Fatalf("request %d of a token: %q", i, got)
		}
	}
	for i := 0; ; i++ {
		if got := enter(nil, fmt.Sprintf("198.51.%d.%d", i/250, i%250)); got != "" {
			if got != "all_requests_at_once" || tr.all != maxAllAtOnce {
				t.Fatalf("%q with %d under way", got, tr.all)
			}
			break
		}
	}
	for _, leave := range leaves {
		leave()
	}
	if tr.all != 0 {
		t.Errorf("%d are under way after the last was answered", tr.all)
	}
	for i := range 2 * maxAskers {
		if leave, over := tr.enter(nil, fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), now); over == nil {
			leave()
		}
	}
	if n := len(tr.askers); n > maxAskers+1 {
		t.Errorf("%d are remembered, at most %d may be", n, maxAskers+1)
	}
	// A minute later they have all of their requests again, and are forgotten.
	if leave, over := tr.enter(nil, "203.0.113.1", now.Add(time.Minute)); over == nil {
		leave()
	}
	if n := len(tr.askers); n > 2 {
		t.Errorf("%d are remembered after a minute", n)
	}
}
