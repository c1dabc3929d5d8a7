package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"

	"davit/orchestrator"
)

// UploadImage streams an image file to the service. progress, if there is one,
// is called with the number of bytes sent so far as they are sent.
func (c *Client) UploadImage(ctx context.Context, n orchestrator.NewImage, r io.Reader, progress ...func(sent int64)) (orchestrator.Image, error) {
	query := url.Values{"image_type": {n.ImageType}, "device_type": n.DeviceTypes, "version": {n.Version}, "tag": n.Tags}
	for name, v := range map[string]string{
		"min_version": n.MinVersion, "description": n.Description, "file_name": n.FileName, "format": n.Format,
	} {
		if v != "" {
			query.Set(name, v)
		}
	}
	return call[orchestrator.Image](ctx, c, request{
		method: http.MethodPost, path: []string{"images"}, query: query,
		header: http.Header{"Expect": {"100-continue"}, "Content-Type": {"application/octet-stream"}},
		stream: &progressReader{r: r, progress: progress}, length: length(r),
	})
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
	query := url.Values{}
	for name, v := range map[string]string{"image_type": f.ImageType, "device_type": f.DeviceType, "tag": f.Tag} {
		if v != "" {
			query.Set(name, v)
		}
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
