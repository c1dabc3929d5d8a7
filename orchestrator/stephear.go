package orchestrator

import (
	"fmt"
	"time"

	"davit/schemas"
)

// holds is how long a success has to hold before another version is no longer
// taken for a fall back of the update.
const holds = 24 * time.Hour

// hear takes what a device says of itself and of its host MCU.
func (m *machine) hear(e Heard) {
	for imageType, version := range e.Versions {
		m.setVersion(imageType, version)
	}
	for i := range m.Executions {
		t := &m.Executions[i]
		v := e.Versions[t.ImageType]
		switch {
		case v == "":
		case t.open() && v == t.goal() && v != t.Version && len(m.view(t.Job).links) > 0:
			m.arrive(t, v) // past the step that it was offered
		case t.open() && v == t.Version && !t.IgnoreValidation:
			m.succeed(t, ending{hostVersion: v})
		case t.State == schemas.StateSucceeded && v != t.goal() && !m.working(t.ImageType):
			m.fellBack(t, v)
		}
	}
	if i := m.current(); i >= 0 {
		t := &m.Executions[i]
		m.sayAgain = t.ID != e.Execution || t.Attempt != e.Attempt
		return
	}
	if e.Execution != "" {
		// The device works on what has ended: whatever it read from its offer
		// topic is cleared once more.
		m.Retained, m.sayAgain = true, true
	}
}

func (m *machine) setVersion(imageType, version string) {
	if version == "" {
		delete(m.Versions, imageType)
		return
	}
	if m.Versions == nil {
		m.Versions = map[string]string{}
	}
	m.Versions[imageType] = version
}

// working says whether an update of an image type is under way.
func (m *machine) working(imageType string) bool {
	i := m.current()
	return i >= 0 && m.Executions[i].ImageType == imageType
}

// fellBack takes that a device which had succeeded runs another version. Success
// means the version that runs, so it is undone: soon after the update that is a
// failure of it; later a continuous job brings the device to its image again.
func (m *machine) fellBack(t *Tracked, version string) {
	if v := m.view(t.Job); m.now.Sub(t.EndedAt) >= holds {
		if v.Plan != nil && v.Plan.Continuous && !v.Over {
			m.again(t, "")
			t.Tries = 0
			m.changed(schemas.StateSucceeded, t)
		}
		return
	}
	m.again(t, "")
	m.changed(schemas.StateSucceeded, t)
	m.end(t, ending{state: schemas.StateFailed, cause: schemas.CauseBoot, hostVersion: version,
		detail: fmt.Sprintf("the host MCU runs %q again, after it had reported %q", version, t.goal())})
	m.follow(t)
}
