package rehearsal

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

func TestTry(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("N"))
	if n == 0 {
		n = 1000
	}
	c := Config{Fleet: DefaultFleet(), Until: 7 * 24 * time.Hour}
	c.Fleet.Devices = n
	c.Fleet.Labels = []Label{{"rev", []Share{{"A", 0.7}, {"B", 0.3}}}}
	if os.Getenv("BAD") != "" {
		c.Fleet.Faults = []Fault{{Cause: schemas.CauseBoot, Chance: 1, Label: "rev", Value: "B"}}
	}
	if os.Getenv("PLAN") != "" {
		c.Rollout = &orchestrator.Rollout{
			Waves: []orchestrator.Wave{{Percent: 5, Success: 90, Of: orchestrator.OfOnline, Soak: orchestrator.Duration(24 * time.Hour)}, {Percent: 25, Success: 90, Of: orchestrator.OfOnline, Soak: orchestrator.Duration(24 * time.Hour)}, {Percent: 100}},
			Stop:  []orchestrator.StopRule{{Causes: []schemas.Cause{schemas.CauseBoot}, Percent: 2, MinSample: 20, Action: orchestrator.StopAbort, RollBack: "old"}},
			Pace:  &orchestrator.Pace{MaxInProgress: 200},
		}
	}
	start := time.Now()
	r, err := Play(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(time.Since(start), time.Duration(r.Duration), r.State, r.Reason, r.Booted, r.Harmed, len(r.Curve), time.Duration(r.Step))
	for _, e := range r.Log {
		fmt.Println(time.Duration(e.After), e.Text)
	}
	b, _ := json.Marshal(r.RollBack)
	fmt.Println(string(b))
	b, _ = json.Marshal(r.Waves)
	fmt.Println(string(b))
}
