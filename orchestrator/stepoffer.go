package orchestrator

import (
	"fmt"
	"slices"
	"time"

	"davit/schemas"
)

// verdict is what the rules say of a queued execution at this moment.
type verdict int

const (
	verdictSkip     verdict = iota // something about the device or the execution holds it back
	verdictWait                    // only its job does
	verdictUnknown                 // the version that runs is not known, which holds back its image type
	verdictSucceed                 // it needs no transfer
	verdictReject                  // it is ruled out
	verdictUnsigned                // its image may not go to a device of this type
	verdictOffer
)

// judge looks at a queued execution of a device on which nothing is under way.
// The link is the image to offer, if that is not the execution's own.
func (m *machine) judge(t *Tracked) (verdict, *link) {
	v := m.view(t.Job)
	switch {
	case m.Quarantined, v.Over, t.NotBefore.After(m.now), t.Downloaded, v.Connected && !m.Online:
		return verdictSkip, nil
	case v.Plan != nil && v.Plan.Action == ActionConfirm && v.Plan.ConfirmBy != ByProduct && !t.Confirmed:
		return verdictSkip, nil
	case v.Paused, t.Wave > v.Wave, v.Closed[t.Lane]:
		return verdictWait, nil
	}
	says, next := m.version(t, v)
	if says == verdictOffer && m.unsigned(t, next) != "" {
		return verdictUnsigned, next
	}
	if says == verdictOffer && (v.Full || v.FullLanes[t.Lane]) {
		return verdictWait, nil
	}
	return says, next
}

// version judges an execution by the version that runs.
func (m *machine) version(t *Tracked, v *JobView) (verdict, *link) {
	running := m.Versions[t.ImageType]
	switch {
	case t.IgnoreValidation:
		return verdictOffer, nil
	case running == t.goal():
		return verdictSucceed, nil
	case len(v.links) > 0 && running == "":
		return verdictUnknown, nil
	case len(v.links) > 0:
		if next, ok := nextLink(v.links, v.last, running); ok {
			return verdictOffer, &next
		}
		return verdictReject, nil
	case t.MinVersion == "" || running == t.MinVersion:
		return verdictOffer, nil
	case running == "":
		return verdictUnknown, nil
	}
	return verdictReject, nil
}

// settle offers the first waiting execution that may be offered, and ends
// those before it that need no transfer or are ruled out. One that waits for a
// version to be reported holds back the later ones of its image type only.
func (m *machine) settle() {
	if m.current() >= 0 {
		return
	}
	m.Waiting = nil
	var unknown []string
	for i := range m.Executions {
		t := &m.Executions[i]
		if t.State != schemas.StateQueued || slices.Contains(unknown, t.ImageType) {
			continue
		}
		says, next := m.judge(t)
		switch says {
		case verdictWait:
			m.Waiting = append(m.Waiting, t.ID)
		case verdictUnknown:
			unknown = append(unknown, t.ImageType)
		case verdictSucceed:
			running := m.Versions[t.ImageType]
			m.arrive(t, running)
		case verdictReject:
			m.end(t, ending{state: schemas.StateRejected, cause: schemas.CauseMinVersion, hostVersion: m.Versions[t.ImageType], detail: m.ruledOut(t)})
		case verdictUnsigned:
			m.end(t, ending{state: schemas.StateRejected, cause: schemas.CauseSignature, hostVersion: m.Versions[t.ImageType], detail: m.unsigned(t, next)})
		case verdictOffer:
			m.offer(t, next)
			_, m.Waiting = m.ahead(t) // the others wait for the device now
			return
		}
	}
}

// arrive ends an execution whose device runs the version already.
func (m *machine) arrive(t *Tracked, running string) {
	detail := "the host MCU runs this version already"
	if v := m.view(t.Job); len(v.links) > 0 {
		t.takes(&v.last)
	}
	m.end(t, ending{state: schemas.StateSucceeded, detail: detail, hostVersion: running})
}

func (m *machine) ruledOut(t *Tracked) string {
	running := m.Versions[t.ImageType]
	if len(m.view(t.Job).links) > 0 {
		return fmt.Sprintf("no image of the job leads on from version %q, which the host MCU runs, to %q", running, t.goal())
	}
	return fmt.Sprintf("the image needs version %q, the host MCU runs %q", t.MinVersion, running)
}

// unsigned says why an image may not be offered to a device whose type requires
// signatures; empty if it may. next is the image, if that is not the execution's own.
func (m *machine) unsigned(t *Tracked, next *link) string {
	version, image := t.Version, t.Image
	if next != nil {
		version, image = next.Version, next.Image
	}
	until := m.SignedUntil[image]
	switch {
	case m.RequireSignature && m.Revoked[image] != "":
		return "the device's type requires signed images: " + m.Revoked[image]
	case !m.RequireSignature || m.now.Before(until):
		return ""
	case until.IsZero():
		return fmt.Sprintf("the device's type requires signed images, and version %s has no manifest whose signatures the service has verified", version)
	}
	return fmt.Sprintf("the device's type requires signed images, and the manifest of version %s expired at %s; deploy one that was signed anew", version, until.Format(time.RFC3339))
}

// takes makes an image the one that the execution deploys.
func (t *Tracked) takes(l *link) {
	t.Image, t.Version, t.VersionID, t.MinVersion = l.Image, l.Version, l.VersionID, l.MinVersion
	t.BytesTotal, t.SHA256 = l.Size, l.SHA256
}

func (m *machine) offer(t *Tracked, next *link) {
	if next != nil {
		t.takes(next)
	}
	t.State, t.OfferedAt, t.UpdatedAt, t.Met = schemas.StateOffered, m.now, m.now, true
	t.Action = m.action(t)
	m.changed(schemas.StateQueued, t)
}

// action is what an execution is offered for at this moment.
func (m *machine) action(t *Tracked) ActionKind {
	v := m.view(t.Job)
	if v.Plan == nil {
		return ""
	}
	switch a := v.Plan.Action; {
	case a == ActionSoft:
		if t.DeferUntil.IsZero() {
			t.DeferUntil = m.now.Add(time.Duration(v.Plan.DeferLimit))
		}
		if m.now.Before(t.DeferUntil) {
			return ActionSoft
		}
	case a == ActionDownload && !t.Install, a == ActionConfirm && v.Plan.ConfirmBy == ByProduct:
		return a
	}
	return ""
}

// takeBack withdraws an offer that no device has accepted: of a job that was
// paused, whose end has passed, whose signer was revoked or whose window has closed, or to make way for one
// of a higher priority. From a device in quarantine it takes back whatever is under way.
func (m *machine) takeBack() {
	m.Waiting = nil
	i := m.current()
	if i < 0 {
		return
	}
	t := &m.Executions[i]
	v := m.view(t.Job)
	if v.Past && t.State == schemas.StateOffered {
		m.end(t, ending{state: schemas.StateCanceled, cause: schemas.CauseCanceled, detail: tooLate})
		return
	}
	if t.State == schemas.StateOffered && m.RequireSignature && m.Revoked[t.Image] != "" {
		m.end(t, ending{state: schemas.StateRejected, cause: schemas.CauseSignature, hostVersion: m.Versions[t.ImageType], detail: m.unsigned(t, nil)})
		return
	}
	if m.Quarantined {
		from := t.State
		m.again(t, "it was taken back because the device was put in quarantine")
		m.changed(from, t)
		return
	}
	closed := v.Closed[t.Lane] && !v.Over
	recall := closed && v.Plan.recalls() && t.State.Rank() <= schemas.StateDownloaded.Rank()
	if t.State != schemas.StateOffered && !recall {
		return
	}
	why := ""
	switch {
	case v.Paused && t.State == schemas.StateOffered:
		why = "the offer was withdrawn because the job was paused"
	case closed:
		why = "the offer was withdrawn because the window closed"
	default:
		var better *Tracked
		if better, m.Waiting = m.ahead(t); better != nil {
			why = fmt.Sprintf("the offer was withdrawn for job %s, which has a higher priority", better.Job)
		}
	}
	if why != "" {
		from := t.State
		m.again(t, why)
		m.changed(from, t)
	}
}

// recalls says whether what is not being loaded yet is taken back when the
// windows close.
func (r *Rollout) recalls() bool { return r != nil && r.Schedule != nil && r.Schedule.Recall }

// ahead looks at the queued executions of a higher priority than the one that is
// offered: the first that may be offered in its place, and those before it that only
// their jobs hold back.
func (m *machine) ahead(of *Tracked) (better *Tracked, waiting []string) {
	var unknown []string
	for i := range m.Executions {
		t := &m.Executions[i]
		if t.Priority <= of.Priority {
			break
		}
		if t.State != schemas.StateQueued || slices.Contains(unknown, t.ImageType) {
			continue
		}
		switch says, _ := m.judge(t); says {
		case verdictOffer:
			return t, waiting
		case verdictWait:
			waiting = append(waiting, t.ID)
		case verdictUnknown:
			unknown = append(unknown, t.ImageType)
		}
	}
	return nil, waiting
}
