package app

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"
)

const connectedHead = "# HELP davit_connected_devices Devices whose connection to the embedded broker stands, those of a connected bridge included, by device type.\n# TYPE davit_connected_devices gauge\n"

// TestConnectedDevicesByType: a device that is connected by itself and by its bridge counts
// once, and one whose type is not known has one all the same.
func TestConnectedDevicesByType(t *testing.T) {
	c := newConnectedDevices(func(devices []string) ([]string, error) {
		types := make([]string, len(devices))
		for i, d := range devices {
			types[i], _, _ = strings.Cut(d, "-")
			if types[i] == "broken" {
				return nil, errors.New("the store is closed")
			}
		}
		return types, nil
	})
	for _, step := range []struct {
		do   func([]string)
		what []string
		want string
	}{
		{c.came, []string{"pump-1", "pump-2", "fan-1"}, `{type="fan"} 1|{type="pump"} 2`},
		{c.came, []string{"pump-1"}, `{type="fan"} 1|{type="pump"} 2`},
		{c.gone, []string{"pump-1", "pump-2", "fan-1"}, `{type="fan"} 0|{type="pump"} 1`},
		{c.came, []string{"-3"}, `{type="fan"} 0|{type="pump"} 1|{type="unknown"} 1`},
		{c.came, []string{"broken-3"}, `{type="fan"} 0|{type="pump"} 1|{type="unknown"} 2`},
		{c.gone, []string{"pump-1", "-3", "broken-3", "never-there"}, `{type="fan"} 0|{type="pump"} 0|{type="unknown"} 0`},
	} {
		step.do(step.what)
		want := connectedHead
		for series := range strings.SplitSeq(step.want, "|") {
			want += "davit_connected_devices" + series + "\n"
		}
		if err := testutil.CollectAndCompare(c, strings.NewReader(want)); err != nil {
			t.Errorf("after %v: %v", step.what, err)
		}
	}
}

// TestConnectedDevicesAddUp: whoever comes and goes in whatever order, the sum over the types
// is how many devices have a connection, and nothing is remembered of the others.
func TestConnectedDevicesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newConnectedDevices(func(devices []string) ([]string, error) {
			types := make([]string, len(devices))
			for i, d := range devices {
				types[i] = "type-" + d // more types than are told of
			}
			return types, nil
		})
		up := map[string]int{}
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			d := fmt.Sprint(rapid.IntRange(0, 150).Draw(t, "device"))
			if up[d] > 0 && rapid.Bool().Draw(t, "goes") {
				if up[d]--; up[d] == 0 {
					delete(up, d)
				}
				c.gone([]string{d})
				continue
			}
			up[d]++
			c.came([]string{d})
		}
		sum := 0
		for _, n := range c.counts {
			sum += *n
		}
		if sum != len(up) || len(c.at) != len(up) || len(c.counts) > maxConnectedTypes+1 {
			t.Fatalf("%d counted and %d remembered of %d, in %d types", sum, len(c.at), len(up), len(c.counts))
		}
	})
}
