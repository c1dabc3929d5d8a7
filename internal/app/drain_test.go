package app

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"davit/internal/durable"
	"davit/orchestrator"
)

// slowUpload begins an upload of which the rest comes when it is told to.
func slowUpload(t *testing.T, s *Server) (body *io.PipeWriter, answer <-chan error) {
	t.Helper()
	token, err := adminToken(s.storage.dir)
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Addresses().HTTP+"/v1/uploads", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/octet-stream")
	done := make(chan error, 1)
	transport := &http.Transport{}
	go func() {
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err == nil {
			var b []byte
			b, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err == nil && resp.StatusCode != http.StatusCreated {
				err = errors.New(resp.Status + " " + string(b))
			}
		}
		done <- err
	}()
	if _, err := w.Write(make([]byte, 256<<10)); err != nil {
		t.Fatal(err)
	}
	unfinished := filepath.Join(s.storage.dir, blobsName, durable.TempPrefix+"*")
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if begun, _ := filepath.Glob(unfinished); len(begun) > 0 {
			return w, done
		}
		if time.Now().After(deadline) {
			t.Fatal("the upload does not begin")
		}
	}
}

// What is under way when the service is told to end has --drain to come to its end, and
// is cut off then.
func TestRequestsDrain(t *testing.T) {
	for _, c := range []struct {
		name   string
		drain  time.Duration
		finish bool
	}{{"in time", patience, true}, {"too late", 200 * time.Millisecond, false}} {
		t.Run(c.name, func(t *testing.T) {
			o := testOptions(t, t.TempDir())
			o.Drain = c.drain
			s, err := NewServer(o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			<-s.Ready()
			if _, err := s.service.CreateImageType(t.Context(), orchestrator.NewImageType{ID: testImageType}); err != nil {
				t.Fatal(err)
			}
			body, answer := slowUpload(t, s)
			cancel()
			if c.finish {
				select {
				case err := <-ended:
					t.Fatalf("it ended before the upload did: %v", err)
				case <-time.After(50 * time.Millisecond):
				}
				if err := body.Close(); err != nil {
					t.Fatal(err)
				}
				if err := <-answer; err != nil {
					t.Errorf("the upload: %v", err)
				}
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Fatal("it does not end")
			}
			if !c.finish {
				_ = body.CloseWithError(io.ErrUnexpectedEOF) // the client waits for its own file, too
				if err := <-answer; err == nil {
					t.Error("an upload that was cut off was answered as if it were whole")
				}
			}
			wellChecked(t, o.Data)
		})
	}
}
