package broker

import (
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"
)

// However many there are, grants hold what a map would.
func TestGrants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g grants
		want := map[string]grant{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			filter := fmt.Sprint("topic-", rapid.IntRange(0, 12).Draw(t, "filter"))
			if rapid.IntRange(0, 3).Draw(t, "drop") == 0 {
				g.drop(filter)
				delete(want, filter)
			} else {
				to := grant{qos: byte(rapid.IntRange(0, 1).Draw(t, "qos")), id: rapid.Int32Range(0, 1<<28-1).Draw(t, "id")}
				g.set(filter, to)
				want[filter] = to
			}
			got := map[string]grant{}
			for f, to := range g.all {
				found, ok := g.find(f)
				if _, twice := got[f]; !ok || found != to || twice {
					t.Fatalf("%q is there twice, or not", f)
				}
				got[f] = found
			}
			if !maps.Equal(got, want) {
				t.Fatalf("grants are %v, want %v", got, want)
			}
			if _, ok := g.find("another"); ok {
				t.Fatal("something else is found")
			}
		}
	})
}
