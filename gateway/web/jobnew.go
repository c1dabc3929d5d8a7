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
		return v.newJob(&form{Values: v.r.URL.Query(), Errors: map[string]string{}})
	})
	c.handle("POST /new/job/preview", "preview-job", func(v *visit) error {
		f, err := v.form()
		if err != nil {
			return err
		}
		return v.newJob(f)
	})
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
		IgnoreValidation: f.Has("ignore_validation"), Start: f.Has("start"),
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
}

// Targets says whether the form uses a way to name devices.
func (w newJobView) Targets(kind string) bool { return w.Target == kind }

// Refused says why the job cannot be created as it stands.
func (w newJobView) Refused() bool {
	return w.PreviewError != "" || w.Preview != nil && w.Preview.UnfitAll > 0
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

func (v *visit) newJob(f *form) error {
	view := newJobView{Target: f.target()}
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
		if err := v.fillTargets(&view, f); err != nil {
			return err
		}
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
	if len(n.Devices) == 0 && len(n.Groups) == 0 && n.Query == "" {
		return nil
	}
	preview, err := v.service.PreviewJob(v.ctx(), n)
	switch {
	case err == nil:
		view.Preview = &preview
	case explainable(err):
		view.PreviewError = sentence(err)
	default:
		return err
	}
	return nil
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
		return v.newJob(f)
	}
	n := f.job()
	if len(n.Devices) == 0 && len(n.Groups) == 0 && n.Query == "" {
		f.Reject("target", "choose who gets the image")
		return v.newJob(f)
	}
	job, err := v.service.CreateJob(v.ctx(), n)
	if f.Take(err) {
		return v.newJob(f)
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
