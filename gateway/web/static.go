package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed static
var staticFiles embed.FS

// assets are the static files. Each is served under a URL that has a hash of its
// content, so browsers may keep it for ever.
type assets struct {
	urls   map[string]string // name -> URL
	byPath map[string]asset
}

type asset struct {
	content []byte
	kind    string
	tag     string
}

func newAssets() (*assets, error) {
	a := &assets{urls: map[string]string{}, byPath: map[string]asset{}}
	err := fs.WalkDir(staticFiles, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := staticFiles.ReadFile(name)
		if err != nil {
			return err
		}
		ext := path.Ext(name)
		kind := mime.TypeByExtension(ext)
		if kind == "" {
			kind = "text/plain; charset=utf-8"
		}
		sum := sha256.Sum256(content)
		tag := hex.EncodeToString(sum[:6])
		url := "/" + strings.TrimSuffix(name, ext) + "-" + tag + ext
		a.urls[strings.TrimPrefix(name, "static/")] = url
		a.byPath[url] = asset{content, kind, `"` + tag + `"`}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the console's static files: %w", err)
	}
	return a, nil
}

// url is where a static file is served.
func (a *assets) url(name string) string { return a.urls[name] }

// ServeHTTP implements http.Handler.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file, ok := a.byPath[r.URL.Path]
	if !ok {
		http.Error(w, "There is no such file.", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("ETag", file.tag)
	if strings.Contains(r.Header.Get("If-None-Match"), file.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", file.kind)
	// The client may be gone; there is nobody else to tell.
	_, _ = w.Write(file.content)
}
