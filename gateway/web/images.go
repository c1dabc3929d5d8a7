package web

import (
	"fmt"
	"slices"

	"davit/orchestrator"
)

const imagesPath = "/images"

// jobsOfImage is how many jobs an image's page names.
const jobsOfImage = 20

func (c *Console) imageRoutes() {
	c.handle("GET /images", "list-images", (*visit).imageList)
	c.handle("GET /images/{id}", "get-image", (*visit).imagePage, "download-image")
	c.handle("GET /images/{id}/edit", "change-image", (*visit).editImage)
	c.handle("POST /images/{id}", "change-image", (*visit).changeImage)
	c.handle("POST /images/{id}/manifest", "attach-manifest", (*visit).attachManifest)
	c.handle("POST /images/{id}/archive", "change-image", func(v *visit) error { return v.archiveImage(true) })
	c.handle("POST /images/{id}/restore", "change-image", func(v *visit) error { return v.archiveImage(false) })
	c.handle("POST /images/{id}/delete", "delete-image", (*visit).deleteImage)
}

// folder is an image type in the list of images.
type folder struct {
	ID, Name string
	Images   int
	Current  bool
	URL      string
}

// folders are all image types and how many images each has.
func (v *visit) folders(current string) ([]folder, error) {
	all, err := v.allImageTypes()
	if err != nil {
		return nil, err
	}
	fleet, err := v.service.Fleet(v.ctx())
	if err != nil {
		return nil, err
	}
	url := func(id string) string {
		q := v.r.URL.Query()
		q.Del("after")
		q.Del("type")
		if id != "" {
			q.Set("type", id)
		}
		if len(q) == 0 {
			return imagesPath
		}
		return imagesPath + "?" + q.Encode()
	}
	out := []folder{{Name: "All", Current: current == "", URL: url("")}}
	for _, it := range all {
		n := fleet.Images[it.ID]
		out[0].Images += n
		out = append(out, folder{it.ID, it.Name, n, it.ID == current, url(it.ID)})
	}
	return out, nil
}

// typeOptions are the device types as choices of a filter.
func (v *visit) typeOptions() ([]option, error) {
	types, err := v.allDeviceTypes()
	if err != nil {
		return nil, err
	}
	options := []option{{"", "Any"}}
	for _, dt := range types {
		options = append(options, option{dt.ID, dt.Name})
	}
	return options, nil
}

func (v *visit) imageList() error {
	f := &form{Values: v.r.URL.Query(), Errors: map[string]string{}}
	filter := orchestrator.ImageFilter{
		ImageType: f.Get("type"), DeviceType: f.Get("device_type"), Tag: f.Get("tag"), Text: f.Get("text"), Archived: f.Has("archived"),
	}
	images, next, err := v.service.Images(v.ctx(), filter, orchestrator.Page{After: v.after(), Limit: pageSize})
	if err != nil && !f.Take(err) {
		return err
	}
	folders, err := v.folders(filter.ImageType)
	if err != nil {
		return err
	}
	options, err := v.typeOptions()
	if err != nil {
		return err
	}
	return v.render("images", page{
		Title: "Images", Nav: imagesPath, Form: f, Live: live{Kinds: []string{orchestrator.KindImage}},
		Data: struct {
			Images   []orchestrator.Image
			Folders  []folder
			Types    []option
			Pager    pager
			Filtered bool
		}{images, folders, options, v.pager(next), filter != orchestrator.ImageFilter{}},
	})
}

func (v *visit) imagePage() error { return v.showImage(newForm()) }

// showImage shows an image, with the form for its manifest as it was sent.
func (v *visit) showImage(f *form) error {
	m, err := v.service.Image(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	jobs, more, err := v.service.Jobs(v.ctx(), orchestrator.JobFilter{Image: m.ID}, orchestrator.Page{Limit: jobsOfImage})
	if err != nil {
		return err
	}
	p := page{
		Title: imageTitle(m), Nav: imagesPath, Live: live{Kinds: []string{orchestrator.KindJob}}, Form: f,
		Crumbs: []crumb{{"Images", imagesPath}, {m.ImageType, imagesPath + "?type=" + m.ImageType}},
		Data: struct {
			Image    orchestrator.Image
			Jobs     []orchestrator.Job
			MoreJobs bool
		}{m, jobs, more != ""},
	}
	if m.Description != "" {
		p.Lead = m.Description
	}
	return v.render("image", p)
}

func (v *visit) editImage() error {
	m, err := v.service.Image(v.ctx(), v.path("id"))
	if err != nil {
		return err
	}
	f := newForm("name", m.Name, "version", m.Version, "min_version", m.MinVersion, "description", m.Description, "revision", fmt.Sprint(m.Revision))
	f.Values["tag"] = slices.Clone(m.Tags)
	f.Values["device_type"] = slices.Clone(m.DeviceTypes)
	f.Values.Set("tags", joinWords(m.Tags))
	return v.imageForm(m, f)
}

func (v *visit) imageForm(m orchestrator.Image, f *form) error {
	fitting, err := v.typesThatTake(m.ImageType, f)
	if err != nil {
		return err
	}
	jobs, _, err := v.service.Jobs(v.ctx(), orchestrator.JobFilter{Image: m.ID}, orchestrator.Page{Limit: 1})
	if err != nil {
		return err
	}
	return v.render("image-edit", page{
		Title: "Edit " + imageTitle(m), Nav: imagesPath, Form: f,
		Crumbs: []crumb{{"Images", imagesPath}, {imageTitle(m), imagesPath + "/" + m.ID}},
		Data: struct {
			Image orchestrator.Image
			Types []typeChoice
			Used  bool
		}{m, fitting, len(jobs) > 0},
	})
}

func (v *visit) changeImage() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	id := v.path("id")
	m, err := v.service.Image(v.ctx(), id)
	if err != nil {
		return err
	}
	tags, types := f.Words("tags"), f.All("device_type")
	if tags == nil {
		tags = []string{}
	}
	if types == nil {
		types = []string{}
	}
	patch := orchestrator.ImagePatch{Precondition: f.Precondition(), Name: f.Ptr("name"), Description: f.Ptr("description"), Tags: &tags, DeviceTypes: &types}
	// Both are read-only once a job has used the image, and then come as they were.
	if version := f.Get("version"); version != m.Version {
		patch.Version = &version
	}
	if minVersion := f.Get("min_version"); minVersion != m.MinVersion {
		patch.MinVersion = &minVersion
	}
	m2, err := v.service.UpdateImage(v.ctx(), id, patch)
	if f.Take(err) {
		if f.Stale {
			f.Refresh(m.Revision)
		}
		return v.imageForm(m, f)
	}
	if err != nil {
		return err
	}
	return v.redirect(imagesPath+"/"+id, "Image "+imageTitle(m2)+" was saved.")
}

func (v *visit) archiveImage(archived bool) error {
	f, err := v.form()
	if err != nil {
		return err
	}
	id := v.path("id")
	_, err = v.service.UpdateImage(v.ctx(), id, orchestrator.ImagePatch{Precondition: f.Precondition(), Archived: &archived})
	done := "The image was archived: it is hidden from the list, and no new job can use it."
	if !archived {
		done = "The image was restored."
	}
	return v.outcome(err, imagesPath+"/"+id, done)
}

func (v *visit) deleteImage() error {
	id := v.path("id")
	m, err := v.service.Image(v.ctx(), id)
	if err != nil {
		return err
	}
	if err := v.service.DeleteImage(v.ctx(), id); err != nil {
		return v.outcome(err, imagesPath+"/"+id, "")
	}
	return v.redirect(imagesPath, "Image "+imageTitle(m)+" was deleted.")
}

// formatName is what people call a firmware format.
func formatName(format string) string {
	switch format {
	case "mcuboot":
		return "MCUboot image"
	case "esp-idf":
		return "ESP-IDF image"
	case "davit-demo":
		return "demo image"
	}
	return format
}
