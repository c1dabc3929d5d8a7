package web

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"davit/orchestrator"
)

const (
	// shownDevices is how many devices the picker shows; the rest is found by searching.
	shownDevices = 50
	// shownImages is how many images the form offers.
	shownImages = 200
	// triedNames is how many names are tried until one is free.
	triedNames = 50
)

func (c *Console) newJobRoutes() {
	c.handle("GET /new/job", "create-job", func(v *visit) error {
		f := &form{Values: v.r.URL.Query(), Errors: map[string]string{}}
		if err := v.suggestPlan(f); err != nil {
			return err
		}
		return v.newJob(f, true)
	})
	c.handle("POST /new/job/preview", "preview-job", (*visit).previewJob)
	c.handle("POST /new/job", "create-job", (*visit).createJob)
}

// The ways to name a job's devices.
const (
	targetDevices = "devices"
	targetGroups  = "groups"
	targetQuery   = "query"
)

// target is which of them a form uses.
func (f *form) target() string {
	switch t := f.Get("target"); {
	case t == targetDevices || t == targetGroups || t == targetQuery:
		return t
	case len(f.All("group")) > 0:
		return targetGroups
	case f.Get("query") != "":
		return targetQuery
	}
	return targetDevices
}

// job reads the form of a new job.
func (f *form) job() orchestrator.NewJob {
	n := orchestrator.NewJob{
		Name: f.Get("name"), Image: f.Get("image"), Description: f.Get("description"),
		IgnoreValidation: f.Has("ignore_validation"), Start: f.Has("start"), Rollout: f.plan(),
	}
	switch f.target() {
	case targetDevices:
		n.Devices = f.All("device")
	case targetGroups:
		n.Groups = f.All("group")
	case targetQuery:
		n.Query = f.Get("query")
	}
	return n
}

// newJobView is what the form of a new job shows.
type newJobView struct {
	Images []option
	// Image is the chosen one, nil as long as there is none.
	Image        *orchestrator.Image
	Target       string
	Picker       picker
	Groups       []orchestrator.Group
	GroupFilter  []option
	Preview      *orchestrator.JobPreview
	PreviewError string
	Plan         *planView
	Sentences    []string // the plan in words
	// Asking says that the form was sent for its preview only, or for another row.
	Asking bool
}

// Targets says whether the form uses a way to name devices.
func (w newJobView) Targets(kind string) bool { return w.Target == kind }

// Refused says why the job cannot be created as it stands.
func (w newJobView) Refused() bool {
	return w.PreviewError != "" || w.Preview != nil && w.Preview.UnfitAll > 0
}

// suggestPlan fills in the plan of the job that the form is to be like, or, without
// one, what is good practice, which counts when waves are chosen.
func (v *visit) suggestPlan(f *form) error {
	if f.Values.Has("rollout_mode") {
		return nil
	}
	if like := f.Get("like"); like != "" {
		job, err := v.service.Job(v.ctx(), like)
		if err != nil {
			return err
		}
		if job.Rollout != nil {
			f.fillPlan(job.Rollout)
			return nil
		}
	}
	fleet, err := v.service.Fleet(v.ctx())
	if err != nil {
		return err
	}
	f.fillPlan(goodPractice(fleet.Devices))
	f.Values.Set("rollout_mode", modeOnce)
	return nil
}

// previewJob shows the form again: with what the job would do, and with one more row
// or one less.
func (v *visit) previewJob() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	return v.newJob(f, true)
}

// picker is the list of devices to choose from.
type picker struct {
	Chosen, Found []pickerRow
	More          bool
}

type pickerRow struct {
	orchestrator.Device
	// Runs is the version of the image's type that the device reports.
	Runs   string
	Chosen bool
}

// newJob shows the form; asking says that nothing was to be created yet, so that what
// is wrong stands at its place without being held against anybody.
func (v *visit) newJob(f *form, asking bool) error {
	view := newJobView{Target: f.target(), Asking: asking, Plan: &planView{Form: f, Mode: f.planMode()}}
	view.Plan.list, view.Plan.longer = f.editRows()
	images, _, err := v.service.Images(v.ctx(), orchestrator.ImageFilter{}, orchestrator.Page{Limit: shownImages})
	if err != nil {
		return err
	}
	for _, m := range images {
		view.Images = append(view.Images, option{m.ID, imageTitle(m)})
	}
	if id := f.Get("image"); id != "" {
		m, err := v.service.Image(v.ctx(), id)
		if err != nil {
			return err
		}
		view.Image = &m
		if !slices.ContainsFunc(view.Images, func(o option) bool { return o.Value == id }) {
			view.Images = append(view.Images, option{m.ID, imageTitle(m)})
		}
		for _, other := range images {
			if other.ImageType == m.ImageType && other.ID != id {
				view.Plan.Images = append(view.Plan.Images, option{other.ID, imageTitle(other)})
			}
		}
		if err := v.fillTargets(&view, f); err != nil {
			return err
		}
	}
	if asking {
		f.status = 0
	}
	p := page{Title: "New job", Nav: jobsPath, Form: f, Crumbs: []crumb{{"Jobs", jobsPath}}, Data: &view}
	if view.Image != nil {
		p.Title = "Deploy " + imageTitle(*view.Image)
	}
	return v.render("job-new", p)
}

// fillTargets adds what depends on the image: whom it fits, a name, and what the
// job would do.
func (v *visit) fillTargets(view *newJobView, f *form) (err error) {
	if view.Groups, _, err = v.service.Groups(v.ctx(), orchestrator.Page{Limit: shownImages}); err != nil {
		return err
	}
	view.GroupFilter = []option{{"", "Any"}}
	for _, g := range view.Groups {
		view.GroupFilter = append(view.GroupFilter, option{g.ID, g.ID})
		view.Plan.Groups = append(view.Plan.Groups, option{g.ID, g.ID})
	}
	if view.Picker, err = v.picker(*view.Image, f); err != nil {
		return err
	}
	if !f.Values.Has("name") {
		name, err := v.suggestName(*view.Image)
		if err != nil {
			return err
		}
		f.Values.Set("name", name)
	}
	n := f.job()
	view.Sentences = v.planSentences(n.Rollout)
	if len(n.Devices) == 0 && len(n.Groups) == 0 && n.Query == "" || len(f.Errors) > 0 {
		return nil
	}
	preview, err := v.service.PreviewJob(v.ctx(), n)
	switch {
	case err == nil:
		view.Preview = &preview
	case aboutPlan(err) && f.takePlan(err): // stands at its field
	case explainable(err):
		view.PreviewError = sentence(err)
	default:
		return err
	}
	return nil
}

// aboutPlan says whether an error is about a field of the plan.
func aboutPlan(err error) bool {
	var field *orchestrator.FieldError
	return errors.As(err, &field) && strings.HasPrefix(field.Field, planRoot)
}

// planSentences tells a plan, with the titles of its images.
func (v *visit) planSentences(r *orchestrator.Rollout) []string {
	sentences := r.Sentences()
	if r == nil {
		return sentences
	}
	images := slices.Clone(r.Via)
	for _, rule := range r.Stop {
		if rule.RollBack != "" {
			images = append(images, rule.RollBack)
		}
	}
	for _, id := range images {
		title := v.titleOf(id)
		for i := range sentences {
			sentences[i] = strings.ReplaceAll(sentences[i], id, title)
		}
	}
	return sentences
}

// picker finds the devices that the image fits and the form looks for.
func (v *visit) picker(m orchestrator.Image, f *form) (picker, error) {
	var p picker
	row := func(d orchestrator.Device, chosen bool) pickerRow {
		return pickerRow{d, d.Versions[m.ImageType], chosen}
	}
	chosen := map[string]bool{}
	for _, id := range f.All("device") {
		if chosen[id] {
			continue
		}
		chosen[id] = true
		d, err := v.service.Device(v.ctx(), id)
		if errors.Is(err, orchestrator.ErrNotFound) {
			continue
		}
		if err != nil {
			return p, err
		}
		p.Chosen = append(p.Chosen, row(d, true))
	}
	filter := orchestrator.DeviceFilter{Text: f.Get("find"), Group: f.Get("find_group")}
	if f.Has("find_online") {
		filter.Online = new(true)
	}
	for _, dt := range m.DeviceTypes {
		filter.Type = dt
		found, next, err := v.service.Devices(v.ctx(), filter, orchestrator.Page{Limit: shownDevices})
		if err != nil && !explainable(err) {
			return p, err
		}
		p.More = p.More || next != ""
		for _, d := range found {
			if len(p.Found) == shownDevices {
				p.More = true
				break
			}
			if !chosen[d.ID] {
				p.Found = append(p.Found, row(d, false))
			}
		}
	}
	return p, nil
}

// suggestName is a free name for a job with the image.
func (v *visit) suggestName(m orchestrator.Image) (string, error) {
	const longest = 56 // leaves room for a number
	base := strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune("._-", r)) {
			return r
		}
		return '-'
	}, m.ImageType+"-"+m.Version)
	base = base[:min(len(base), longest)]
	name := base
	for i := 2; i < triedNames; i++ {
		_, err := v.service.Job(v.ctx(), name)
		if errors.Is(err, orchestrator.ErrNotFound) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
		name = fmt.Sprintf("%s-%d", base, i)
	}
	return "", nil // people will find one
}

func (v *visit) createJob() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	if f.Get("image") == "" {
		f.Reject("image", "choose the image to deploy")
		return v.newJob(f, false)
	}
	n := f.job()
	if len(n.Devices) == 0 && len(n.Groups) == 0 && n.Query == "" {
		f.Reject("target", "choose who gets the image")
	}
	if f.Bad() {
		return v.newJob(f, false)
	}
	job, err := v.service.CreateJob(v.ctx(), n)
	if f.takePlan(err) {
		return v.newJob(f, false)
	}
	if err != nil {
		return err
	}
	done := "The job was created; start it when you are ready."
	if n.Start {
		done = "The job was created and started."
	}
	return v.redirect(jobURL(job.Name), done)
}

// excluded says how many devices a job would not bring to its image, by why.
func excluded(p *orchestrator.JobPreview) string {
	var parts []string
	for _, kind := range []struct {
		orchestrator.ExclusionKind
		words string
	}{
		{orchestrator.ExcludedRunning, "run it already"}, {orchestrator.ExcludedUnreachable, "cannot get there"},
		{orchestrator.ExcludedUnknown, "have not reported a version"}, {orchestrator.ExcludedQuarantined, "are in quarantine"}, {orchestrator.ExcludedUnfit, "do not fit it"},
	} {
		if n := p.Excluded[kind.ExclusionKind]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", grouped(int64(n)), kind.words))
		}
	}
	return "Would not get it: " + strings.Join(parts, ", ")
}
