package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"davit/orchestrator"
)

// UploadImage streams an image file to the service. progress, if there is one,
// is called with the number of bytes sent so far as they are sent.
func (c *Client) UploadImage(ctx context.Context, n orchestrator.NewImage, r io.Reader, progress ...func(sent int64)) (orchestrator.Image, error) {
	query := url.Values{"image_type": {n.ImageType}, "device_type": n.DeviceTypes, "version": {n.Version}, "tag": n.Tags}
	set(query, "name", n.Name, "min_version", n.MinVersion, "description", n.Description, "file_name", n.FileName, "format", n.Format)
	if n.VersionID != 0 {
		query.Set("version_id", strconv.FormatUint(n.VersionID, 10))
	}
	return upload[orchestrator.Image](ctx, c, query, r, progress, "images")
}

// upload streams bytes to the service, which may refuse them before they are sent.
func upload[T any](ctx context.Context, c *Client, query url.Values, r io.Reader, progress []func(int64), path ...string) (T, error) {
	return call[T](ctx, c, request{
		method: http.MethodPost, path: path, query: query,
		header: http.Header{"Expect": {"100-continue"}, "Content-Type": {"application/octet-stream"}},
		stream: &progressReader{r: r, progress: progress}, length: length(r),
	})
}

// StageUpload streams a file to the service that is to become an image later.
func (c *Client) StageUpload(ctx context.Context, n orchestrator.NewUpload, r io.Reader, progress ...func(sent int64)) (orchestrator.Upload, error) {
	query := set(url.Values{}, "file_name", n.FileName, "format", n.Format)
	return upload[orchestrator.Upload](ctx, c, query, r, progress, "uploads")
}

// Upload returns what is known of an uploaded file.
func (c *Client) Upload(ctx context.Context, id string) (orchestrator.Upload, error) {
	return get[orchestrator.Upload](ctx, c, "uploads", id)
}

// DiscardUpload throws an uploaded file away.
func (c *Client) DiscardUpload(ctx context.Context, id string) error {
	return c.remove(ctx, "uploads", id)
}

// CreateImage makes an uploaded file an image.
func (c *Client) CreateImage(ctx context.Context, upload string, n orchestrator.NewImage) (orchestrator.Image, error) {
	return post[orchestrator.Image](ctx, c, n, "uploads", upload, "image")
}

// UpdateImage changes what is not nil.
func (c *Client) UpdateImage(ctx context.Context, id string, p orchestrator.ImagePatch) (orchestrator.Image, error) {
	return patch[orchestrator.Image](ctx, c, p, p.Precondition, "images", id)
}

// AttachManifest gives an image its signed manifest.
func (c *Client) AttachManifest(ctx context.Context, id string, n orchestrator.NewManifest) (orchestrator.Image, error) {
	return call[orchestrator.Image](ctx, c, request{method: http.MethodPut, path: []string{"images", id, "manifest"}, body: n})
}

// length finds how many bytes r has, or returns -1.
func length(r io.Reader) int64 {
	switch r := r.(type) {
	case interface{ Len() int }:
		return int64(r.Len())
	case *os.File:
		info, err := r.Stat()
		if err != nil || !info.Mode().IsRegular() {
			return -1
		}
		at, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return -1
		}
		return max(info.Size()-at, 0)
	}
	return -1
}

type progressReader struct {
	r        io.Reader
	progress []func(int64)
	sent     int64
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.sent += int64(n)
	for _, f := range p.progress {
		f(p.sent)
	}
	return n, err
}

// Image returns an image's record.
func (c *Client) Image(ctx context.Context, id string) (orchestrator.Image, error) {
	return get[orchestrator.Image](ctx, c, "images", id)
}

// Images lists the images that pass the filter.
func (c *Client) Images(ctx context.Context, f orchestrator.ImageFilter, p orchestrator.Page) ([]orchestrator.Image, string, error) {
	query := set(url.Values{}, "image_type", f.ImageType, "device_type", f.DeviceType, "tag", f.Tag, "text", f.Text)
	if f.Archived {
		query.Set("archived", "true")
	}
	return list[orchestrator.Image](ctx, c, p, query, "images")
}

// ImageContent returns the flat binary; the caller closes it. Check it against
// the record's SHA-256.
func (c *Client) ImageContent(ctx context.Context, id string) (io.ReadCloser, error) {
	resp, err := c.send(ctx, request{method: http.MethodGet, path: []string{"images", id, "content"}})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// DeleteImage removes an image that no job uses.
func (c *Client) DeleteImage(ctx context.Context, id string) error {
	return c.remove(ctx, "images", id)
}
