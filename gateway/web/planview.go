package web

import (
	"slices"
	"strings"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// goodPractice is the plan that a new job is offered: a small part first, most only
// after that has held, and a stop before many are harmed. In a small fleet the rule
// counts from fewer devices on, because it could never be met otherwise.
func goodPractice(fleet int) *orchestrator.Rollout {
	const soak = orchestrator.Duration(time.Hour)
	return &orchestrator.Rollout{
		Waves: []orchestrator.Wave{
			{Percent: 5, Success: 95, Of: orchestrator.OfOnline, Soak: soak},
			{Percent: 25, Success: 95, Of: orchestrator.OfOnline, Soak: soak},
			{Percent: 100},
		},
		Stop:  []orchestrator.StopRule{{Percent: 5, MinSample: min(20, max(1, fleet/5))}},
		Retry: &orchestrator.RetryPolicy{Attempts: 3},
	}
}

// planView is the part of the form of a new job that says how it reaches its devices.
type planView struct {
	Form *form
	Mode string
	// Groups and Images are what can be chosen; images are those of the job's type.
	Groups, Images []option
	// list is the one whose rows were changed last, longer says that it has a new one.
	list   string
	longer bool
}

// planRow is one row of a list of the plan.
type planRow struct {
	*planView
	list  string
	index int
}

// List is the name of the list.
func (r planRow) List() string { return r.list }

// Number counts the rows from 1.
func (r planRow) Number() int { return r.index + 1 }

// Row is the name of the row.
func (r planRow) Row() string { return rowName(r.list, r.index) }

// At is the name of one of the row's fields.
func (r planRow) At(field string) string { return r.Row() + "/" + field }

// New says whether the row was just added, so that its first field is where one goes
// on.
func (r planRow) New() bool {
	return r.longer && r.planView.list == r.list && r.index == r.Form.rows(r.list)-1
}

// Is says whether the form uses a way to say how the job reaches its devices.
func (p *planView) Is(mode string) bool { return p.Mode == mode }

// Rows are those of a list.
func (p *planView) Rows(list string) []planRow {
	var rows []planRow
	for i := range p.Form.rows(planRoot + "/" + list) {
		rows = append(rows, planRow{p, planRoot + "/" + list, i})
	}
	return rows
}

// Shrunk says whether a row of a list was just taken away, so that one goes on at the
// button that adds one.
func (p *planView) Shrunk(list string) bool { return !p.longer && p.list == planRoot+"/"+list }

// Open says whether a part of the plan is shown: something stands in it, or is wrong
// with it.
func (p *planView) Open(parts ...string) bool {
	within := func(field string) bool {
		return slices.ContainsFunc(parts, func(part string) bool {
			part = planRoot + "/" + part
			return field == part || strings.HasPrefix(field, part+"/")
		})
	}
	for field := range p.Form.Values {
		typed := p.Form.Has(field) && p.Form.Get(field) != string(orchestrator.ActionInstall) && p.Form.Get(field) != string(orchestrator.ByPerson)
		if within(field) && (typed || strings.HasSuffix(field, "/new")) {
			return true
		}
	}
	return slices.ContainsFunc(p.Form.Fields(), within) || p.list != "" && within(p.list)
}

// Kinds are the ways to say which devices a wave takes.
func (p *planView) Kinds() []option { return waveKinds() }

// Bases are what the success of a wave is a part of; those that were online first,
// because devices that are switched off would hold up everybody else.
func (p *planView) Bases() []option {
	return []option{{string(orchestrator.OfOnline), "those online"}, {string(orchestrator.OfAll), "all devices"}}
}

// Scopes are what a stop rule counts over.
func (p *planView) Scopes() []option {
	return []option{{string(orchestrator.OverJob), "the whole job"}, {string(orchestrator.OverWave), "each wave"}}
}

// StopActions are what a stop rule does.
func (p *planView) StopActions() []option {
	return []option{
		{string(orchestrator.StopPause), "pause the job"},
		{string(orchestrator.StopAbort), "cancel it; what is in progress finishes"},
		{string(orchestrator.StopRecall), "cancel it, and what is in progress"},
	}
}

// Actions are what devices are asked to do.
func (p *planView) Actions() []option {
	return []option{
		{string(orchestrator.ActionInstall), "install it"}, {string(orchestrator.ActionSoft), "install it; they may put it off"},
		{string(orchestrator.ActionConfirm), "install it once somebody has agreed"}, {string(orchestrator.ActionDownload), "download it, and install it on command"},
	}
}

// Confirmers are who may have to agree.
func (p *planView) Confirmers() []option {
	return []option{{string(orchestrator.ByPerson), "a person, here"}, {string(orchestrator.ByProduct), "the product"}}
}

// FailureCauses are those that a rule can be about.
func (p *planView) FailureCauses() []option {
	var out []option
	for _, c := range schemas.Causes() {
		if c != schemas.CauseCanceled && c != schemas.CauseNone {
			out = append(out, option{string(c), causeText(c)})
		}
	}
	return out
}

// RetryCauses are those that another try can help.
func (p *planView) RetryCauses() []option {
	never := []schemas.Cause{schemas.CauseAlready, schemas.CauseSize, schemas.CauseSignature, schemas.CauseMinVersion}
	return slices.DeleteFunc(p.FailureCauses(), func(o option) bool { return slices.Contains(never, schemas.Cause(o.Value)) })
}

// RollBacks are the images that devices can be brought back to.
func (p *planView) RollBacks() []option { return append([]option{{"", "nothing"}}, p.Images...) }

// GroupChoices are the groups, and none.
func (p *planView) GroupChoices() []option { return append([]option{{"", "choose"}}, p.Groups...) }
