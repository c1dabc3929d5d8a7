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

// manifestForm reads the files.
func (v *visit) manifestForm() (*form, orchestrator.NewManifest, error) {
	var n orchestrator.NewManifest
	f := newForm()
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxManifestForm)
	err := v.r.ParseMultipartForm(maxManifestForm)
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
		files := v.r.MultipartForm.File[part.name]
		if len(files) == 0 {
			f.Reject(part.name, "choose the file")
		}
		for _, file := range files {
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
