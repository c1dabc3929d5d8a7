package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"davit/gateway"
	"davit/orchestrator"
)

func TestUploadLimits(t *testing.T) {
	r := newAPI(t, func(o *gateway.APIOptions) { o.MaxUpload = 3000 })
	r.catalog() // the device type's limit is 1000 bytes
	unknownLength := func(n int) io.Reader { return io.MultiReader(bytes.NewReader(make([]byte, n))) }
	cases := []struct {
		name   string
		body   io.Reader
		status int
		says   string
	}{
		{"as large as allowed", bytes.NewReader(make([]byte, 1000)), 201, ""},
		{"over the device type's limit", bytes.NewReader(make([]byte, 1001)), 413, "1000 bytes"},
		{"over the device type's limit, length unknown", unknownLength(1001), 413, "1000 bytes"},
		{"over the server's limit", bytes.NewReader(make([]byte, 3001)), 413, "3000 bytes"},
		{"empty", bytes.NewReader(nil), 422, "0 bytes"},
	}
	for _, c := range cases {
		a := r.upload("1.0", c.body)
		if a.status != c.status {
			t.Errorf("%s: %d, want %d: %s", c.name, a.status, c.status, a.body)
		} else if a.status != 201 && !strings.Contains(a.problem(t).Detail, c.says) {
			t.Errorf("%s: the detail does not say %q: %s", c.name, c.says, a.body)
		}
	}
	if a := r.do("GET /v1/images", ""); strings.Count(a.body, `"id"`) != 1 {
		t.Errorf("one upload succeeded, the listing has %s", a.body)
	}
	for _, path := range []string{"?image_type=app&version=1", "?device_type=pump&version=1", "?image_type=app&device_type=pump", "?image_type=app&device_type=pump&version=1&format=elf", "?image_type=none&device_type=pump&version=1"} {
		if a := r.do("POST /v1/images"+path, "x"); a.status != 422 {
			t.Errorf("%s: %d, want 422: %s", path, a.status, a.body)
		}
	}
}

// fullDisk fails an upload as a full disk does, after some bytes.
type fullDisk struct{ gateway.Service }

func (fullDisk) UploadImage(_ context.Context, _ orchestrator.NewImage, r io.Reader) (orchestrator.Image, error) {
	if _, err := io.CopyN(io.Discard, r, 100); err != nil {
		return orchestrator.Image{}, err
	}
	return orchestrator.Image{}, fmt.Errorf("keep image: %w on the data folder's disk", orchestrator.ErrNoSpace)
}

func TestUploadOnAFullDisk(t *testing.T) {
	r := newAPI(t, func(o *gateway.APIOptions) { o.Service = fullDisk{o.Service} })
	a := r.upload("1.0", bytes.NewReader(make([]byte, 1<<20)))
	if a.status != http.StatusInsufficientStorage || !strings.Contains(a.problem(t).Detail, "no space") {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

// TestUploadIsStreamed sends far more than the memory that it may take.
func TestUploadIsStreamed(t *testing.T) {
	const size = 64 << 20
	r := newAPI(t, nil)
	r.must("POST /v1/image-types", `{"id":"app"}`)
	r.must("POST /v1/device-types", `{"id":"pump","dialect":"ayla","image_types":[{"id":"app"}]}`)
	peak := samplePeak(t)
	a := r.upload("1.0", io.LimitReader(zeros{}, size))
	grown := peak()
	if a.status != 201 || !strings.Contains(a.body, fmt.Sprintf(`"size":%d`, size)) {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	t.Logf("an upload of 64 MiB added %.1f MiB to the process's memory", float64(grown)/(1<<20))
	if grown > 20<<20 {
		t.Errorf("an upload of %d bytes added %d bytes to the process's memory", size, grown)
	}
	if n := metric(t, r.registry, "davit_http_uploaded_bytes_total"); n != size {
		t.Errorf("counted %v bytes, sent %d", n, size)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestRefusalBeforeTheBody: with Expect: 100-continue a refusal comes instead
// of the invitation to send.
func TestRefusalBeforeTheBody(t *testing.T) {
	r := newAPI(t, func(o *gateway.APIOptions) { o.MaxUpload = 3000 })
	r.catalog()
	cases := []struct {
		token, query string
		length       int
		first        string // line of the answer
	}{
		{adminToken, "image_type=app&device_type=pump&version=1&format=binary", 500, "HTTP/1.1 100 Continue"},
		{adminToken, "image_type=app&device_type=none&version=1", 500, "HTTP/1.1 422 Unprocessable Entity"},
		{adminToken, "image_type=app&device_type=pump&version=1", 5000, "HTTP/1.1 413 Request Entity Too Large"},
		{"wrong", "image_type=app&device_type=pump&version=1", 500, "HTTP/1.1 401 Unauthorized"},
	}
	for _, c := range cases {
		u, err := url.Parse(r.url)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(conn, "POST /v1/images?%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", c.query, c.token, c.length)
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || strings.TrimSpace(line) != c.first {
			t.Errorf("%s, %d bytes: %q %v, want %q", c.query, c.length, line, err, c.first)
		}
		_ = conn.Close() // in the first case: an upload that breaks off
	}
	eventually(t, func() bool {
		a := r.do("GET /v1/images", "")
		return a.body == "{\"items\":[]}\n"
	})
}

// TestTooManyUploads fills the slots with uploads that do not end.
func TestTooManyUploads(t *testing.T) {
	r := newAPI(t, nil)
	r.catalog()
	var pipes []*io.PipeWriter
	ended := make(chan answer, 100)
	refused := 0
	for range 20 {
		body, w := io.Pipe()
		pipes = append(pipes, w)
		go func() { ended <- r.upload("1.0", body) }()
	}
	for refused < 14 { // 8 slots, of which one user has 6 at most
		a := <-ended
		if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
			t.Fatalf("got %d %s %v", a.status, a.body, a.header)
		}
		refused++
	}
	// Not before the refusals are read: a client that still sends when the service closes the connection may
	// see that its write failed, and not the answer.
	for _, w := range pipes {
		go func() {
			_, _ = w.Write([]byte("x")) // nobody reads that of a refused one
			_ = w.Close()
		}()
	}
	defer func() {
		for _, w := range pipes {
			_ = w.CloseWithError(io.ErrClosedPipe)
		}
	}()
	for range 6 {
		if a := <-ended; a.status != 201 {
			t.Errorf("an upload that had a slot: %d %s", a.status, a.body)
		}
	}
}
