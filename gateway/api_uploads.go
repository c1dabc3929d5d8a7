package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"davit/orchestrator"
)

// rawBody gives a handler the request, whose body huma would read into memory.
type rawBody struct {
	request *http.Request
	writer  http.ResponseWriter
}

func (b *rawBody) take(ctx huma.Context) { b.request, b.writer = humago.Unwrap(ctx) }

type stageInput struct {
	FileName string `query:"file_name" doc:"The name of the file."`
	Format   string `query:"format" enum:"auto,binary,ihex" default:"auto" doc:"auto tells by the content."`

	body rawBody
}

// Resolve implements huma.Resolver.
func (in *stageInput) Resolve(ctx huma.Context) []error {
	in.body.take(ctx)
	return nil
}

var _ huma.Resolver = (*stageInput)(nil)

type uploadImageInput struct {
	ID
	Keyed
	Body orchestrator.NewImage
}

func fileBody(op *huma.Operation) {
	op.RequestBody = &huma.RequestBody{
		Required: true,
		Content:  map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}},
	}
}

func (a *API) uploadRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "POST /v1/uploads", "create upload",
		func(ctx context.Context, in *stageInput) (*created[orchestrator.Upload], error) {
			u, err := receive(a, in.body, func(body io.Reader) (orchestrator.Upload, error) {
				return s.StageUpload(ctx, orchestrator.NewUpload{FileName: in.FileName, Format: in.Format}, body)
			})
			if err != nil {
				return nil, err
			}
			return &created[orchestrator.Upload]{Location: "/v1/uploads/" + u.ID, Body: u}, nil
		}, fileBody, describe("The first step towards an image: the body is the file as it is, raw binary or Intel HEX; it is streamed to disk. The answer says what the file says of itself, "+
			"and which images have the same content already. What becomes no image within a day is thrown away. There is no Idempotency-Key: a repetition is another upload. "+refusals))
	route(a, api, "GET /v1/uploads/{id}", "get upload",
		func(ctx context.Context, in *ID) (*bodyOf[orchestrator.Upload], error) {
			return one(s.Upload(ctx, in.ID))
		})
	route(a, api, "DELETE /v1/uploads/{id}", "delete upload",
		func(ctx context.Context, in *ID) (*nothing, error) {
			return nil, s.DiscardUpload(ctx, in.ID)
		})
	route(a, api, "POST /v1/uploads/{id}/image", "create image from upload",
		func(ctx context.Context, in *uploadImageInput) (*created[orchestrator.Image], error) {
			once, err := in.once(ctx, "create-image-from-upload", []any{in.ID.ID, in.Body})
			if err != nil {
				return nil, err
			}
			i, err := s.CreateImage(once, in.ID.ID, in.Body)
			return a.images().made(ctx, i, err)
		}, describe("Makes an image of an upload, which is gone then. Where the file and what was typed disagree, the image has warnings."))
}

// images answers creations of images.
func (a *API) images() maker[orchestrator.NewImage, orchestrator.Image] {
	return maker[orchestrator.NewImage, orchestrator.Image]{
		read: a.options.Service.Image,
		at:   func(i orchestrator.Image) place { return place{"/v1/images/" + i.ID, i.Revision} },
	}
}

const refusals = "Answers 413 with the limit if the file or the image is too large, 507 if the disk is full, 429 while too many uploads are under way. " +
	"Send \"Expect: 100-continue\" to have a refusal before the body is sent."

// TooManyUploads is what is said to somebody for whose upload there is no slot.
const TooManyUploads = "Too many uploads are under way already, yours or all together; try again in a moment."

// receive hands a file to fn as it arrives, if there is a slot for it and it
// is not too long.
func receive[T any](a *API, raw rawBody, fn func(io.Reader) (T, error)) (T, error) {
	var none T
	give, ok := a.options.Uploads.Take(raw.request.Context())
	if !ok {
		return none, busy(TooManyUploads)
	}
	defer give()
	if raw.request.ContentLength > a.options.MaxUpload {
		return none, a.tooLong()
	}
	body := &uploadReader{Reader: http.MaxBytesReader(raw.writer, raw.request.Body, a.options.MaxUpload), metrics: a.options.Metrics}
	v, err := fn(body)
	if err != nil && body.err != nil {
		return none, a.bodyProblem(body)
	}
	return v, err
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
