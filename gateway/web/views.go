package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"

	"davit/gateway/people"
)

//go:embed templates
var templateFiles embed.FS

// shared are the templates that every page is made with; all other files are
// pages.
func shared(name string) bool { return name == "layout.html" || strings.HasPrefix(name, "part-") }

// views are the pages' templates. html/template binds functions when a template is
// made, and "can" depends on who looks, so there is one template of a page
// for each role, made when it is first needed.
type views struct {
	base  *template.Template // has what is shared; pages are made of copies
	mu    sync.Mutex
	pages map[viewKey]*template.Template
}

type viewKey struct {
	page string
	role people.Role // empty for nobody
}

func newViews(c *Console) (*views, error) {
	v := &views{base: template.New("console").Funcs(c.functions()).Funcs(canFunction("")), pages: map[viewKey]*template.Template{}}
	names, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("list the console's templates: %w", err)
	}
	for _, name := range names {
		if !shared(path.Base(name)) {
			continue
		}
		if err := parseView(v.base, name); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// parseView reads one of the templates into t.
func parseView(t *template.Template, file string) error {
	text, err := templateFiles.ReadFile(file)
	if err != nil {
		return err
	}
	if _, err := t.New(path.Base(file)).Parse(string(text)); err != nil {
		return fmt.Errorf("template %s: %w", file, err)
	}
	return nil
}

func canFunction(role people.Role) template.FuncMap {
	p := people.Principal{Role: role}
	return template.FuncMap{"can": func(operation string) (bool, error) {
		if _, ok := people.OperationByID(operation); !ok {
			return false, fmt.Errorf("no operation %q", operation)
		}
		return p.Allowed(operation), nil
	}}
}

// of returns a page's template for a role.
func (v *views) of(name string, role people.Role) (*template.Template, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key := viewKey{name, role}
	if t := v.pages[key]; t != nil {
		return t, nil
	}
	t, err := v.base.Clone()
	if err != nil {
		return nil, err
	}
	t.Funcs(canFunction(role))
	if err := parseView(t, "templates/"+name+".html"); err != nil {
		return nil, err
	}
	v.pages[key] = t
	return t, nil
}

// page is what a page is made of: what its handler sets, and what render adds.
type page struct {
	// Title is the heading and the browser's title.
	Title string
	// Lead is a sentence under the heading.
	Lead string
	// Nav is the path of the navigation's item that the page belongs to.
	Nav string
	// Crumbs lead back up.
	Crumbs []crumb
	// Form of the page, if it has one; when it is bad the status says so.
	Form *form
	// Live says what changes the page follows.
	Live live
	// Bare pages have no navigation: sign-in and first run.
	Bare bool
	// Data is the page's own.
	Data any

	// The following are render's.
	Who       people.Principal
	Signed    bool
	Flash     *flash
	Path      string
	Version   string
	Sections  []navSection
	SignInURL string
}

// crumb is one step of the way back up.
type crumb struct{ Text, URL string }

// live says which changes (kinds of the feed) a page follows; the fragments that
// are marked with {{live "id"}} are then read anew.
type live struct {
	Kinds  []string
	Job    string
	Device string
	// Since is render's: the revision that the changes are followed from, so that what
	// happens before the browser has opened the stream is not missed.
	Since uint64
}

// Query is the query of the event stream.
func (l live) Query() string {
	q := make([]string, 0, len(l.Kinds)+2)
	for _, k := range l.Kinds {
		q = append(q, "kind="+template.URLQueryEscaper(k))
	}
	if l.Job != "" {
		q = append(q, "job="+template.URLQueryEscaper(l.Job))
	}
	if l.Device != "" {
		q = append(q, "device="+template.URLQueryEscaper(l.Device))
	}
	return strings.Join(q, "&")
}

// On says whether the page follows anything.
func (l live) On() bool { return len(l.Kinds) > 0 }

// render answers with a page: with status 200, or that of what is wrong with its
// form.
func (v *visit) render(name string, p page) error {
	status := http.StatusOK
	if p.Form.Bad() && p.Form.status != 0 {
		status = p.Form.status
	}
	return v.renderStatus(status, name, p)
}

func (v *visit) renderStatus(status int, name string, p page) error {
	role := people.Role("")
	if v.signed {
		role = v.who.Role
	}
	t, err := v.views.of(name, role)
	if err != nil {
		return err
	}
	p.Live.Since = v.since
	p.Who, p.Signed, p.Path, p.Version = v.who, v.signed, v.r.URL.Path, v.options.Version
	if p.Flash == nil {
		p.Flash = v.takeFlash()
	}
	if !p.Bare {
		p.Sections = v.navigation(p.Nav)
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "layout.html", p); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	// The browser may be gone; there is nobody else to tell.
	_, _ = v.w.Write(b.Bytes())
	return nil
}

// navSection is a part of the navigation.
type navSection struct {
	Title string
	Items []navItem
}

type navItem struct {
	Path, Text, Icon string
	Current          bool
}

// navigation is what the visitor may look at.
func (v *visit) navigation(current string) []navSection {
	type item struct{ operation, path, text, icon string }
	sections := []struct {
		title string
		items []item
	}{
		{"", []item{{"get-fleet", "/", "Overview", "overview"}}},
		{"Roll out", []item{
			{"list-jobs", "/jobs", "Jobs", "job"},
			{"list-images", "/images", "Images", "image"},
		}},
		{"Fleet", []item{
			{"list-devices", "/devices", "Devices", "device"},
			{"list-groups", "/groups", "Groups", "group"},
			{"list-bridges", "/bridges", "Bridges", "bridge"},
			{"list-claims", "/claims", "Claims", "key"},
		}},
		{"Set up", []item{
			{"list-device-types", "/device-types", "Device types", "device-type"},
			{"list-image-types", "/image-types", "Image types", "image-type"},
		}},
		{"Administration", []item{
			{"list-users", "/people", "People", "people"},
			{"list-audit-entries", "/audit", "Audit log", "audit"},
			{"get-storage", "/storage", "Storage", "storage"},
		}},
	}
	var out []navSection
	for _, s := range sections {
		section := navSection{Title: s.title}
		for _, i := range s.items {
			if v.can(i.operation) {
				section.Items = append(section.Items, navItem{i.path, i.text, i.icon, i.path == current})
			}
		}
		if len(section.Items) > 0 {
			out = append(out, section)
		}
	}
	return out
}

// pageSize is how many rows a list shows.
const pageSize = 50

// pager is the way through a list.
type pager struct {
	// Next and First are URLs, empty if there is none.
	Next, First string
}

// pageAfter is the part of a list that the visitor asks for.
func (v *visit) after() string { return v.query("after") }

// pager returns the links of a list whose next part begins after the cursor.
func (v *visit) pager(next string) pager {
	var p pager
	q := v.r.URL.Query()
	if q.Get("after") != "" {
		q.Del("after")
		p.First = v.r.URL.Path + "?" + q.Encode()
	}
	if next != "" {
		q.Set("after", next)
		p.Next = v.r.URL.Path + "?" + q.Encode()
	}
	return p
}
