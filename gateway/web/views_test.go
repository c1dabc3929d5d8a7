package web

import (
	"io/fs"
	"path"
	"strings"
	"testing"
)

// Templates are read when a page is first shown; a mistake in one is found here.
func TestTemplatesAreRead(t *testing.T) {
	v, err := newViews(&Console{})
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d templates: %v", len(names), err)
	}
	for _, name := range names {
		page, _ := strings.CutSuffix(path.Base(name), ".html")
		if shared(path.Base(name)) {
			continue
		}
		if _, err := v.of(page, ""); err != nil {
			t.Error(err)
		}
	}
	if _, err := v.of("nothing", ""); err == nil {
		t.Error("a page without a template")
	}
}
