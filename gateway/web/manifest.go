package web

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"

	"davit/orchestrator"
	"davit/schemas"
)

// maxManifestForm is the longest form with a manifest and its signatures in bytes.
const maxManifestForm = schemas.MaxManifestSize + maxAroundFile

// attachManifest gives an image its signed manifest: two files.
func (v *visit) attachManifest() error {
	f, n, err := v.manifestForm()
	if err != nil {
		return err
	}
	if !f.Bad() {
		_, err = v.service.AttachManifest(v.ctx(), v.path("id"), n)
		if err == nil {
			return v.redirect(imagesPath+"/"+v.path("id"), "The manifest was attached.")
		}
		if !f.Take(err) {
			return err
		}
	}
	return v.showImage(f)
}

// manifestForm reads the form of an image's page, where both files have to be chosen.
func (v *visit) manifestForm() (*form, orchestrator.NewManifest, error) {
	f, n, err := v.formWithManifest()
	if err == nil && !f.Bad() {
		f.bothFiles(n)
	}
	return f, n, err
}

// bothFiles rejects what is missing.
func (f *form) bothFiles(n orchestrator.NewManifest) {
	if n.Manifest == "" {
		f.Reject("manifest", "choose the file")
	}
	if n.Signatures == "" {
		f.Reject("signatures", "choose the file")
	}
}

// formWithManifest reads a form with fields and, if they were chosen, the files.
func (v *visit) formWithManifest() (*form, orchestrator.NewManifest, error) {
	var n orchestrator.NewManifest
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxManifestForm)
	err := v.r.ParseMultipartForm(maxManifestForm)
	f := &form{Values: v.r.Form, Errors: map[string]string{}}
	if v.r.MultipartForm != nil {
		defer func() { _ = v.r.MultipartForm.RemoveAll() }() // temporary files only
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		f.Reject("manifest", fmt.Sprintf("manifest and signatures are longer than %d MiB, so they are not what they are taken for", schemas.MaxManifestSize>>20))
		return f, n, nil
	case err != nil:
		return nil, n, fmt.Errorf("%w: the form could not be read: %w", orchestrator.ErrInvalid, err)
	}
	for _, part := range []struct {
		name string
		text *string
	}{{"manifest", &n.Manifest}, {"signatures", &n.Signatures}} {
		for _, file := range v.r.MultipartForm.File[part.name] {
			text, err := readPart(file)
			if err != nil {
				return nil, n, err
			}
			*part.text += text
		}
	}
	return f, n, nil
}

// readPart reads a file of a form, which is in memory.
func readPart(h *multipart.FileHeader) (string, error) {
	file, err := h.Open()
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(file)
	return string(b), errors.Join(err, file.Close())
}

// createSigned makes an image of an upload and gives it a manifest. One that does not
// belong to it is refused before there is an image.
func (v *visit) createSigned(upload string, in orchestrator.NewImage, n orchestrator.NewManifest) (m orchestrator.Image, done string, err error) {
	if err := v.service.CheckManifest(v.ctx(), upload, in, n); err != nil {
		return m, "", err
	}
	if m, err = v.service.CreateImage(v.ctx(), upload, in); err != nil {
		return m, "", err
	}
	done = "Image " + imageTitle(m) + " is here with its manifest. Deploy it to a device of the lab first."
	if _, err := v.service.AttachManifest(v.ctx(), m.ID, n); err != nil {
		if !explainable(err) {
			return m, "", err
		}
		done = "Image " + imageTitle(m) + " is here, but not its manifest: " + sentence(err)
	}
	return m, done, nil
}
