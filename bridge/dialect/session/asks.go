package session

import "time"

// pollVersion is how often a version property is asked for that the MCU has not
// reported, and refreshVersion how often one that it has, while nothing else
// goes on: an MCU that was exchanged may say nothing by itself.
const (
	pollVersion    = time.Minute
	refreshVersion = 10 * time.Minute
)

// Ask is a version property of the MCU.
type Ask struct {
	Name  string
	Value string // as reported since the MCU was last seen to start, "" if not
	Want  bool   // the question for it waits to be sent
}

// Asks are the version properties that an MCU is asked for.
type Asks struct {
	list    []Ask
	pollAt  time.Time
	askedAt time.Time // all of them were asked for
}

// Of returns the ask of a property, a new one if need be.
func (a *Asks) Of(name string) *Ask {
	if ask := a.find(name); ask != nil {
		return ask
	}
	a.list = append(a.list, Ask{Name: name})
	return &a.list[len(a.list)-1]
}

// Has says whether the property is one of those that are asked for.
func (a *Asks) Has(name string) bool { return a.find(name) != nil }

func (a *Asks) find(name string) *Ask {
	for i := range a.list {
		if a.list[i].Name == name {
			return &a.list[i]
		}
	}
	return nil
}

// All asks for every property, and begins the wait for the next poll.
func (a *Asks) All(now time.Time) {
	a.askedAt, a.pollAt = now, now.Add(pollVersion)
	for i := range a.list {
		a.list[i].Want = true
	}
}

// None takes every question back that has not been sent.
func (a *Asks) None() {
	for i := range a.list {
		a.list[i].Want = false
	}
}

// Forget drops what the MCU reported: it has restarted, or may have, and may
// run something else now, or be another one.
func (a *Asks) Forget() {
	for i := range a.list {
		a.list[i].Value = ""
	}
}

// Reported takes what the MCU reports for a property.
func (a *Asks) Reported(name, value string) {
	ask := a.Of(name)
	ask.Value, ask.Want = value, false
}

// Next takes the next question that waits; false if there is none.
func (a *Asks) Next() (name string, ok bool) {
	for i := range a.list {
		if ask := &a.list[i]; ask.Want {
			ask.Want = false
			return ask.Name, true
		}
	}
	return "", false
}

// PollAt is when Poll has something to do.
func (a *Asks) PollAt() time.Time { return a.pollAt }

// Poll asks for versions now and then: those that are not known each time, all
// of them less often. It does nothing while an update is under way.
func (a *Asks) Poll(now time.Time, updating bool) {
	if now.Before(a.pollAt) {
		return
	}
	a.pollAt = now.Add(pollVersion)
	switch {
	case updating:
	case now.Sub(a.askedAt) >= refreshVersion:
		a.All(now)
	default:
		for i := range a.list {
			a.list[i].Want = a.list[i].Want || a.list[i].Value == ""
		}
	}
}
