package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"davit/orchestrator"
)

func (a *API) imageRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "POST /v1/images", "create image", a.upload, uploadBody,
		describe("The body is the image file as it is, raw binary or Intel HEX; it is streamed to disk. What describes it stands in the query. "+
			"Answers 413 with the limit if the file or the image is too large, 507 if the disk is full, 429 while too many uploads are under way. "+
			"Send \"Expect: 100-continue\" to have a refusal before the body is sent."))
	route(a, api, "GET /v1/images", "list images",
		func(ctx context.Context, in *imagesInput) (*bodyOf[Page[orchestrator.Image]], error) {
			filter := orchestrator.ImageFilter{ImageType: in.ImageType, DeviceType: in.DeviceType, Tag: in.Tag}
			return listing(s.Images(ctx, filter, in.page()))
		})
	route(a, api, "GET /v1/images/{id}", "get image",
		func(ctx context.Context, in *ID) (*bodyOf[orchestrator.Image], error) {
			return one(s.Image(ctx, in.ID))
		})
	route(a, api, "GET /v1/images/{id}/content", "download image", a.download, downloadAnswers,
		describe("The flat binary that the host MCU gets. Ranges and conditional requests are honoured; the ETag is the SHA-256."))
	route(a, api, "DELETE /v1/images/{id}", "delete image",
		func(ctx context.Context, in *ID) (*nothing, error) {
			return nil, s.DeleteImage(ctx, in.ID)
		}, describe("Refused with 409 while a job uses it."))
}

type imagesInput struct {
	PageQuery
	ImageType  string `query:"image_type" maxLength:"64" doc:"Only images of this image type."`
	DeviceType string `query:"device_type" maxLength:"64" doc:"Only images that fit this device type."`
	Tag        string `query:"tag" doc:"Only images with this tag."`
}

type uploadInput struct {
	ImageType   string   `query:"image_type" required:"true" minLength:"1" maxLength:"64" doc:"The category of firmware."`
	DeviceTypes []string `query:"device_type,explode" required:"true" minItems:"1" doc:"The device types that the image fits; repeatable."`
	Version     string   `query:"version" required:"true" minLength:"1" doc:"The version that the host MCU will report."`
	MinVersion  string   `query:"min_version" doc:"The exact version that must be running for the image to be deployed."`
	Description string   `query:"description" doc:"Free text of at most 4096 bytes."`
	Tags        []string `query:"tag,explode" doc:"Words to find the image by; repeatable."`
	FileName    string   `query:"file_name" doc:"The name that a download gets, if the file is a raw binary."`
	Format      string   `query:"format" enum:"auto,binary,ihex" default:"auto" doc:"auto tells by the content."`

	request *http.Request
	writer  http.ResponseWriter
}

// Resolve gives the handler the request, whose body huma would read into memory.
func (in *uploadInput) Resolve(ctx huma.Context) []error {
	in.request, in.writer = humago.Unwrap(ctx)
	return nil
}

var _ huma.Resolver = (*uploadInput)(nil)

func uploadBody(op *huma.Operation) {
	op.RequestBody = &huma.RequestBody{
		Required: true,
		Content:  map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}},
	}
}

func (a *API) upload(ctx context.Context, in *uploadInput) (*created[orchestrator.Image], error) {
	select {
	case a.uploads <- struct{}{}:
		defer func() { <-a.uploads }()
	default:
		return nil, busy(fmt.Sprintf("%d uploads are under way already; try again in a moment.", maxUploads))
	}
	if in.request.ContentLength > a.options.MaxUpload {
		return nil, a.tooLong()
	}
	paced := in.request.Body
	body := &uploadReader{Reader: http.MaxBytesReader(in.writer, paced, a.options.MaxUpload), metrics: a.options.Metrics}
	image, err := a.options.Service.UploadImage(ctx, orchestrator.NewImage{
		ImageType: in.ImageType, DeviceTypes: in.DeviceTypes, Version: in.Version, MinVersion: in.MinVersion,
		Description: in.Description, Tags: in.Tags, FileName: in.FileName, Format: in.Format,
	}, body)
	if err != nil && body.err != nil {
		return nil, a.bodyProblem(body)
	}
	return made("/v1/images/"+image.ID, image, err)
}

// uploadReader remembers why the body ended: whoever reads it may wrap that
// in an error about the image.
type uploadReader struct {
	io.Reader
	metrics *Metrics
	read    int64
	err     error // other than io.EOF
}

func (u *uploadReader) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	u.read += int64(n)
	u.metrics.uploadedBytes(n)
	if err != nil && !errors.Is(err, io.EOF) {
		u.err = err
	}
	return n, err
}

func (a *API) bodyProblem(u *uploadReader) error {
	var long *http.MaxBytesError
	switch {
	case errors.As(u.err, &long):
		return a.tooLong()
	case errors.Is(u.err, errBodyStalled):
		return newProblem(http.StatusRequestTimeout, fmt.Sprintf("The upload stalled after %d bytes and was given up; nothing of it was kept.", u.read))
	}
	return newProblem(http.StatusBadRequest, fmt.Sprintf("The upload broke off after %d bytes (%v); nothing of it was kept.", u.read, u.err))
}

func (a *API) tooLong() error {
	return newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("The file is longer than this server takes: at most %d bytes.", a.options.MaxUpload))
}

func downloadAnswers(op *huma.Operation) {
	content := map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}
	op.Responses = map[string]*huma.Response{
		"200": {Description: "The whole image", Content: content},
		"206": {Description: "The range asked for", Content: content},
		"304": {Description: "Not changed"},
		"416": {Description: "The range lies outside the image"},
	}
	op.Errors = []int{http.StatusNotFound}
}

func (a *API) download(ctx context.Context, in *ID) (*huma.StreamResponse, error) {
	image, blob, err := a.options.Service.OpenImage(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		defer func() {
			if err := blob.Close(); err != nil {
				a.options.Log.Warn("closing an image", "image", image.ID, "error", err)
			}
		}()
		h := w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("ETag", strconv.Quote(image.SHA256))
		h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": downloadName(image)}))
		// An image never changes under its id, so its ETag says all; a time would say less.
		http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(blob, 0, blob.Size()))
	}}, nil
}

// downloadName is the file's name for whoever saves it. The content is always
// the flat binary, whatever was uploaded.
func downloadName(i orchestrator.Image) string {
	if i.FileName != "" && i.Format == "binary" {
		return i.FileName
	}
	return i.ID + ".bin"
}
