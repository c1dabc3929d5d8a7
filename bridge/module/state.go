package module

import (
	"encoding/json"
	"fmt"
	"slices"

	"davit/internal/logevent"
	"davit/schemas"
)

// maxResults is how many ends are remembered: the service may offer an execution again until
// it has heard of its end.
const maxResults = 8

// seqGap is what a restart adds to the number of the last status that was saved: more than
// reports of progress can have come between.
const seqGap = 1 << 20

// record is what lasts.
type record struct {
	V       int          `json:"v"`
	Open    *open        `json:"open,omitempty"`
	Results []result     `json:"results,omitempty"` // oldest first
	Image   *storedImage `json:"image,omitempty"`
}

// open is the execution under way.
type open struct {
	Offer schemas.Offer        `json:"offer"`
	State schemas.State        `json:"state"`
	Seq   uint64               `json:"seq"`
	Trace *schemas.TraceHeader `json:"trace,omitempty"` // what came with the offer, nil for nothing
}

// result is how an execution ended.
type result struct {
	Status schemas.Status       `json:"status"`
	Acked  bool                 `json:"acked,omitempty"`
	Trace  *schemas.TraceHeader `json:"trace,omitempty"` // what Status carries
}

// storedImage says what the slot holds.
type storedImage struct {
	SHA256 string          `json:"sha256"`
	Ranges []schemas.Range `json:"ranges,omitempty"`
}

func decodeState(b []byte) (record, error) {
	r := record{V: 1}
	if len(b) == 0 {
		return r, nil
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("the module's state: %w", err)
	}
	if r.V != 1 {
		return r, fmt.Errorf("the module's state has version %d, this is version 1", r.V)
	}
	if r.Open != nil {
		if err := r.Open.Offer.Validate(); err != nil {
			return r, fmt.Errorf("the module's state: %w", err)
		}
	}
	return r, nil
}

// save has the record kept. Without it a restart repeats work and does no harm.
func (m *Module) save() {
	if m.cfg.Save == nil {
		return
	}
	b, err := json.Marshal(m.rec)
	if err == nil {
		err = m.cfg.Save(b)
	}
	if err != nil {
		m.log.Error("the module's state could not be kept; a restart may repeat work", "event", logevent.RecordNotWritten, "error", err)
	}
}

// result finds how an attempt ended.
func (r *record) result(execution string, attempt int) *result {
	i := slices.IndexFunc(r.Results, func(x result) bool {
		return x.Status.Execution == execution && x.Status.Attempt == attempt
	})
	if i < 0 {
		return nil
	}
	return &r.Results[i]
}

// overtaken says whether a later attempt has ended: the offer was delivered late.
func (r *record) overtaken(o schemas.Offer) bool {
	return slices.ContainsFunc(r.Results, func(x result) bool {
		return x.Status.Execution == o.Execution && x.Status.Attempt > o.Attempt
	})
}

func (r *record) remember(x result) {
	r.Results = append(r.Results, x)
	if over := len(r.Results) - maxResults; over > 0 {
		r.Results = slices.Delete(r.Results, 0, over)
	}
}
