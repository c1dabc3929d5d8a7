package gateway

import (
	"context"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"davit/internal/logevent"
	"davit/orchestrator"
)

func (a *API) imageRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "POST /v1/images", "create image", a.upload, fileBody,
		describe("Upload and image in one step: the body is the image file as it is, raw binary or Intel HEX; it is streamed to disk. What describes it stands in the query. "+
			"An Idempotency-Key compares the query and the length of the file, not its bytes. "+refusals))
	route(a, api, "GET /v1/images", "list images",
		func(ctx context.Context, in *imagesInput) (*bodyOf[Page[orchestrator.Image]], error) {
			filter := orchestrator.ImageFilter{ImageType: in.ImageType, DeviceType: in.DeviceType, Tag: in.Tag, Text: in.Text, Archived: in.Archived}
			return listing(s.Images(ctx, filter, in.page()))
		}, describe(partial))
	route(a, api, "GET /v1/images/{id}", "get image",
		func(ctx context.Context, in *freshID) (*taggedOf[orchestrator.Image], error) {
			i, err := s.Image(ctx, in.ID.ID)
			return fresh(in.Fresh, i, i.Revision, err)
		})
	route(a, api, "PATCH /v1/images/{id}", "change image",
		func(ctx context.Context, in *patchOf[orchestrator.ImagePatch]) (*taggedOf[orchestrator.Image], error) {
			var err error
			if in.Body.Precondition, err = in.precondition(); err != nil {
				return nil, err
			}
			i, err := s.UpdateImage(ctx, in.ID.ID, in.Body)
			return tagged(i, i.Revision, err)
		}, describe("Fields that are left out stay as they are. What the image is never changes once a job has used it. archived hides the image and keeps new jobs from it; it is refused with 409 while a job needs the image."))
	a.manifestRoute(api)
	route(a, api, "GET /v1/images/{id}/content", "download image", a.download, downloadAnswers,
		describe("The flat binary that the host MCU gets. Ranges and conditional requests are honoured; the ETag is the SHA-256."))
	route(a, api, "DELETE /v1/images/{id}", "delete image",
		func(ctx context.Context, in *ID) (*nothing, error) {
			return nil, s.DeleteImage(ctx, in.ID)
		}, describe("Refused with 409 while a job uses it."))
}

func (a *API) manifestRoute(api huma.API) {
	route(a, api, "PUT /v1/images/{id}/manifest", "attach manifest",
		func(ctx context.Context, in *bodyFor[orchestrator.NewManifest]) (*taggedOf[orchestrator.Image], error) {
			i, err := a.options.Service.AttachManifest(ctx, in.ID.ID, in.Body)
			return tagged(i, i.Revision, err)
		}, describe("Gives an image its signed manifest, as davit image sign makes it. It has to be about this image, block by block, for all of its device types, and not expired; "+
			"the signatures are verified with the service's keys, if it has some. Answers 422 with the field and the reason if anything of that is not so, "+
			"and 409 while a job that has not ended uses the image, unless the image has exactly this manifest."))
}

type imagesInput struct {
	PageQuery
	ImageType  string `query:"image_type" maxLength:"64" doc:"Only images of this image type."`
	DeviceType string `query:"device_type" maxLength:"64" doc:"Only images that fit this device type."`
	Tag        string `query:"tag" maxLength:"256" doc:"Only images with this tag."`
	Text       string `query:"text" maxLength:"256" doc:"Only images with this in version, description, file name or tags, whatever the case."`
	Archived   bool   `query:"archived" doc:"Archived images instead of the others."`
}

// bodyFor is a body for one record.
type bodyFor[T any] struct {
	ID
	Body T
}

type uploadInput struct {
	Keyed
	ImageType   string   `query:"image_type" required:"true" minLength:"1" maxLength:"64" doc:"The category of firmware."`
	DeviceTypes []string `query:"device_type,explode" required:"true" minItems:"1" doc:"The device types that the image fits; repeatable."`
	Version     string   `query:"version" required:"true" minLength:"1" doc:"The version that the host MCU will report."`
	VersionID   uint64   `query:"version_id" doc:"The number that stands for the version with host MCUs that know versions by number, 1 to 2^53-1; without it the next one of the image type."`
	Name        string   `query:"name" doc:"What people call the firmware, without its version."`
	MinVersion  string   `query:"min_version" doc:"The exact version that must be running for the image to be deployed."`
	Description string   `query:"description" doc:"Free text of at most 4096 bytes."`
	Tags        []string `query:"tag,explode" doc:"Words to find the image by; repeatable."`
	FileName    string   `query:"file_name" doc:"The name that a download gets, if the file is a raw binary."`
	Format      string   `query:"format" enum:"auto,binary,ihex" default:"auto" doc:"auto tells by the content."`

	body rawBody
}

// Resolve implements huma.Resolver.
func (in *uploadInput) Resolve(ctx huma.Context) []error {
	in.body.take(ctx)
	return nil
}

var _ huma.Resolver = (*uploadInput)(nil)

func (a *API) upload(ctx context.Context, in *uploadInput) (*created[orchestrator.Image], error) {
	n := orchestrator.NewImage{
		ImageType: in.ImageType, DeviceTypes: in.DeviceTypes, Name: in.Name, Version: in.Version, VersionID: in.VersionID, MinVersion: in.MinVersion,
		Description: in.Description, Tags: in.Tags, FileName: in.FileName, Format: in.Format,
	}
	once, err := in.once(ctx, "create-image", []any{n, in.body.request.ContentLength})
	if err != nil {
		return nil, err
	}
	image, err := receive(a, in.body, func(body io.Reader) (orchestrator.Image, error) {
		return a.options.Service.UploadImage(once, n, body)
	})
	return a.images().made(ctx, image, err)
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
				a.options.Log.Warn("closing an image", "event", logevent.ImageNotClosed, "image", image.ID, "error", err)
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
