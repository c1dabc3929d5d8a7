package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"davit/gateway"
	"davit/orchestrator"
	"davit/schemas"
)

// The upload wizard has three steps: the file, what it is, and the device types.
// What was uploaded stands in the upload's record, what was typed travels in the
// query, so going back, reloading and bookmarks work, and the server keeps nothing
// else.

const uploadPath = "/new/image"

const (
	// maxUploadField is the longest field beside the file.
	maxUploadField = 256
	// maxAroundFile is how much of a form may be around the file.
	maxAroundFile = 64 << 10
	// maxUploadFields is how many fields a form may have, because they are held in
	// memory.
	maxUploadFields = 16
)

func (c *Console) uploadRoutes() {
	c.handle("GET /new/image", "create-upload", (*visit).uploadWizard, "get-upload", "create-image")
	c.handle("POST /new/image", "create-upload", (*visit).receiveUpload)
	c.handle("POST /new/image/create", "create-image-from-upload", (*visit).createImage, "attach-manifest")
	c.handle("POST /new/image/discard", "delete-upload", (*visit).discardUpload)
}

func (v *visit) uploadWizard() error {
	f := &form{Values: v.r.URL.Query(), Errors: map[string]string{}}
	id := f.Get("upload")
	if id == "" {
		return v.uploadFile(f)
	}
	u, err := v.service.Upload(v.ctx(), id)
	if errors.Is(err, orchestrator.ErrNotFound) {
		f.Reject("file", "this upload is gone: it has become an image, was discarded, or is older than a day")
		return v.uploadFile(f)
	}
	if err != nil {
		return err
	}
	if f.Get("step") != "3" {
		return v.uploadDetails(u, f)
	}
	if f.Get("image_type") == "" {
		f.Reject("image_type", "choose what kind of firmware this is")
	}
	if f.Get("version") == "" {
		f.Reject("version", "type the version that the host MCU reports when it runs the image")
	}
	f.versionID()
	if f.Bad() {
		return v.uploadDetails(u, f)
	}
	return v.uploadTypes(u, f)
}

// versionID reads the number of a version; none is 0.
func (f *form) versionID() uint64 {
	s := f.Get("version_id")
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		f.Reject("version_id", fmt.Sprintf("%q is not a number from 1 to %d", s, uint64(schemas.MaxVersionID)))
	}
	return n
}

// uploadFile is step 1.
func (v *visit) uploadFile(f *form) error {
	all, err := v.allImageTypes()
	if err != nil {
		return err
	}
	return v.render("upload-file", page{
		Title: "Upload an image", Nav: imagesPath, Form: f, Crumbs: []crumb{{"Images", imagesPath}},
		Data: struct {
			HasImageTypes bool
			MaxImage      int64
			ImageType     string
		}{len(all) > 0, v.options.MaxImage, f.Get("image_type")},
	})
}

// receiveUpload is step 1 without script: the file of a plain form, which goes
// from the connection to the disk and is never held whole in memory.
func (v *visit) receiveUpload() error {
	if v.options.MaxUpload > 0 {
		v.r.Body = http.MaxBytesReader(v.w, v.r.Body, v.options.MaxUpload+maxAroundFile)
	}
	f := newForm()
	give, ok := v.options.Uploads.Take(v.ctx())
	if !ok {
		f.Reject("file", gateway.TooManyUploads)
		f.status = http.StatusTooManyRequests
		return v.uploadFile(f)
	}
	defer give()
	parts, err := v.r.MultipartReader()
	if err != nil {
		f.Reject("file", "the form came without a file")
		return v.uploadFile(f)
	}
	for range maxUploadFields {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			f.Reject("file", "choose a file first")
			return v.uploadFile(f)
		}
		if err != nil {
			f.Reject("file", "the upload broke off; try again")
			return v.uploadFile(f)
		}
		if part.FormName() != "file" {
			value, err := io.ReadAll(io.LimitReader(part, maxUploadField))
			if err != nil {
				return err
			}
			f.Values.Set(part.FormName(), string(value))
			continue
		}
		if part.FileName() == "" {
			f.Reject("file", "choose a file first")
			return v.uploadFile(f)
		}
		var file io.ReadCloser = part
		if v.options.MaxUpload > 0 {
			file = http.MaxBytesReader(v.w, part, v.options.MaxUpload)
		}
		return v.stage(f, part.FileName(), file)
	}
	f.Reject("file", "the form has more fields than this page")
	return v.uploadFile(f)
}

func (v *visit) stage(f *form, name string, r io.Reader) error {
	u, err := v.service.StageUpload(v.ctx(), orchestrator.NewUpload{FileName: name, Format: f.Get("format")}, r)
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		f.Reject("file", fmt.Sprintf("the file is longer than this server takes, %d bytes", tooLong.Limit))
		f.status = http.StatusRequestEntityTooLarge
	case f.Take(err):
		f.Errors["file"], f.Notice = sentence(err), ""
	case err != nil:
		return err
	default:
		return v.redirect(uploadURL(u.ID, url.Values{"image_type": f.All("image_type")}), "")
	}
	return v.uploadFile(f)
}

// uploadURL is the second step of an upload.
func uploadURL(id string, q url.Values) string {
	for name, values := range q {
		if len(values) == 0 {
			delete(q, name)
		}
	}
	q.Set("upload", id)
	return uploadPath + "?" + q.Encode()
}

// duplicate is an image that has the same content as the upload.
type duplicate struct {
	orchestrator.Image
	URL string
}

func (v *visit) duplicates(u orchestrator.Upload) ([]duplicate, error) {
	var out []duplicate
	for _, id := range u.Duplicates {
		m, err := v.service.Image(v.ctx(), id)
		if errors.Is(err, orchestrator.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, duplicate{m, imagesPath + "/" + m.ID})
	}
	return out, nil
}

// uploadDetails is step 2.
func (v *visit) uploadDetails(u orchestrator.Upload, f *form) error {
	all, err := v.allImageTypes()
	if err != nil {
		return err
	}
	options := []option{{"", "choose…"}}
	for _, it := range all {
		options = append(options, option{it.ID, it.Name})
	}
	if len(all) == 1 && f.Get("image_type") == "" {
		f.Values.Set("image_type", all[0].ID)
	}
	if !f.Values.Has("version") && u.Detected != nil {
		f.Values.Set("version", u.Detected.Version)
	}
	same, err := v.duplicates(u)
	if err != nil {
		return err
	}
	return v.render("upload-details", page{
		Title: "Upload an image", Nav: imagesPath, Form: f, Crumbs: []crumb{{"Images", imagesPath}},
		Data: struct {
			Upload     orchestrator.Upload
			ImageTypes []option
			Duplicates []duplicate
		}{u, options, same},
	})
}

// typeChoice is a device type that takes an image type.
type typeChoice struct {
	orchestrator.DeviceType
	Enabled orchestrator.EnabledImageType
	Chosen  bool
	Devices int
	// Over says that the image is larger than the device type takes.
	Over bool
}

// typesThatTake are the device types that take an image type.
func (v *visit) typesThatTake(imageType string, f *form) ([]typeChoice, error) {
	types, err := v.allDeviceTypes()
	if err != nil {
		return nil, err
	}
	fleet, err := v.service.Fleet(v.ctx())
	if err != nil {
		return nil, err
	}
	var out []typeChoice
	for _, dt := range types {
		i := slices.IndexFunc(dt.ImageTypes, func(e orchestrator.EnabledImageType) bool { return e.ID == imageType })
		if i >= 0 {
			out = append(out, typeChoice{dt, dt.ImageTypes[i], f.Has("device_type", dt.ID), fleet.ByType[dt.ID], false})
		}
	}
	return out, nil
}

// uploadTypes is step 3.
func (v *visit) uploadTypes(u orchestrator.Upload, f *form) error {
	it, err := v.service.ImageType(v.ctx(), f.Get("image_type"))
	if f.Take(err) {
		f.Errors["image_type"], f.Notice = sentence(err), ""
		return v.uploadDetails(u, f)
	}
	if err != nil {
		return err
	}
	types, err := v.typesThatTake(it.ID, f)
	if err != nil {
		return err
	}
	for i := range types {
		limit := types[i].Enabled.SizeLimit
		types[i].Over = limit > 0 && u.Size > limit
		types[i].Chosen = types[i].Chosen || len(types) == 1 && !types[i].Over
	}
	back, create := url.Values{}, url.Values{}
	for name, values := range f.Values {
		if slices.Contains(carried(), name) {
			create[name] = values
		}
		if name != "step" && name != "manifest" && name != "signatures" {
			back[name] = values
		}
	}
	return v.render("upload-types", page{
		Title: "Upload an image", Nav: imagesPath, Form: f, Crumbs: []crumb{{"Images", imagesPath}},
		Data: struct {
			Upload    orchestrator.Upload
			ImageType orchestrator.ImageType
			Types     []typeChoice
			Back      string
			Create    string
			Strict    []string
			Differs   string
		}{u, it, types, uploadPath + "?" + back.Encode(), uploadPath + "/create?" + create.Encode(), strict(types), differs(u, f.Get("version"))},
	})
}

// strict are the names of the device types that require signatures.
func strict(types []typeChoice) []string {
	var names []string
	for _, t := range types {
		if t.RequireSignature {
			names = append(names, t.Name)
		}
	}
	return names
}

// carried are the fields of step 2 that step 3 sends along, in the query of its form: so they are there, too,
// when a file that is too long keeps the rest of the form from being read.
func carried() []string {
	return []string{"upload", "image_type", "name", "version", "version_id", "min_version", "description", "tags"}
}

// differs says that the file names another version than was typed.
func differs(u orchestrator.Upload, version string) string {
	if u.Detected == nil || u.Detected.Version == "" || u.Detected.Version == version {
		return ""
	}
	return fmt.Sprintf("The file says that it is version %s, and you typed %s. A job succeeds when the host MCU reports what you typed.", u.Detected.Version, version)
}

// createImage is what step 3 leads to: its form has the device types and, if the image is
// signed, two files. What the steps before have found stands in the query.
func (v *visit) createImage() error {
	f, n, err := v.formWithManifest()
	if err != nil {
		return err
	}
	signed := n != orchestrator.NewManifest{}
	if signed && !v.can("attach-manifest") {
		return &forbiddenError{"attach-manifest"}
	}
	u, err := v.service.Upload(v.ctx(), f.Get("upload"))
	if err != nil {
		return err
	}
	types := f.All("device_type")
	if len(types) == 0 {
		f.Reject("device_type", "choose at least one device type")
	}
	if signed {
		f.bothFiles(n)
	}
	if f.Bad() {
		return v.uploadTypes(u, f)
	}
	id := f.versionID()
	if f.Bad() {
		return v.uploadDetails(u, f)
	}
	in := orchestrator.NewImage{
		ImageType: f.Get("image_type"), DeviceTypes: types, Name: f.Get("name"), Version: f.Get("version"), VersionID: id, MinVersion: f.Get("min_version"),
		Description: f.Get("description"), Tags: f.Words("tags"), FileName: u.FileName,
	}
	m, done, err := v.create(u.ID, in, n)
	if err == nil {
		return v.redirect(imagesPath+"/"+m.ID, done)
	}
	if !f.Take(err) {
		return err
	}
	for _, name := range f.Fields() {
		if slices.Contains(carried(), strings.Split(name, "/")[0]) {
			return v.uploadDetails(u, f)
		}
	}
	return v.uploadTypes(u, f)
}

// create makes the image, with its manifest if there is one, and says so.
func (v *visit) create(upload string, in orchestrator.NewImage, n orchestrator.NewManifest) (orchestrator.Image, string, error) {
	if (n != orchestrator.NewManifest{}) {
		return v.createSigned(upload, in, n)
	}
	m, err := v.service.CreateImage(v.ctx(), upload, in)
	return m, "Image " + imageTitle(m) + " is here. Deploy it to a device of the lab first.", err
}

func (v *visit) discardUpload() error {
	f, err := v.form()
	if err != nil {
		return err
	}
	err = v.service.DiscardUpload(v.ctx(), f.Get("upload"))
	if errors.Is(err, orchestrator.ErrNotFound) {
		err = nil
	}
	return v.outcome(err, imagesPath, "The upload was discarded.")
}

func joinWords(words []string) string { return strings.Join(words, ", ") }
