package web

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"davit/gateway/people"
)

// TestRoutesCoverOperations holds the routes against the matrix of operations:
// each one's page exists, and some route serves it.
func TestRoutesCoverOperations(t *testing.T) {
	r := newRig(t)
	served := map[string]bool{}
	pages := map[string]bool{}
	for _, route := range r.console.routes {
		for _, id := range append([]string{route.operation}, route.also...) {
			served[id] = true
		}
		if method, path, _ := strings.Cut(route.pattern, " "); method == http.MethodGet {
			pages[strings.TrimSuffix(path, "{$}")] = true
		}
	}
	for _, op := range people.Operations() {
		if op.Console == "" {
			continue
		}
		if !served[op.ID] {
			t.Errorf("%s: no route of the console serves it", op.ID)
		}
		if !pages[op.Console] {
			t.Errorf("%s: there is no page %s", op.ID, op.Console)
		}
	}
}

// wildcards are the values with which tests fill the patterns of routes.
func (s seeded) fill(pattern string) []string {
	_, path, _ := strings.Cut(pattern, " ")
	path = strings.TrimSuffix(path, "{$}")
	fills := map[string][]string{
		"/image-types": {"application"}, "/device-types": {"thermostat"}, "/images": {s.image}, "/devices": {"lab-00", "lab-03"}, "/groups": {"lab", "berlin"},
		"/bridges": {"rack"}, "/jobs": {"first", "draft", rolloutJob}, "/executions": {s.execution, s.failed}, "/people": {"the-viewer"}, "/account": {"x"},
	}
	if strings.HasPrefix(path, "/new/image/") {
		return []string{strings.NewReplacer("{id}", s.upload, "{upload}", s.upload).Replace(path)}
	}
	first := "/" + strings.SplitN(strings.TrimPrefix(path, "/"), "/", 2)[0]
	var out []string
	if strings.Contains(path, "{n}") {
		fills[first] = []string{rolloutJob}
	}
	for _, v := range fills[first] {
		out = append(out, strings.NewReplacer("{id}", v, "{name}", v, "{n}", "2").Replace(path))
	}
	if !strings.Contains(path, "{") {
		return []string{path}
	}
	return out
}

// TestEveryPageAsEveryRole gets every page as every role and as nobody: whoever may
// not see it gets 403, or is asked to sign in.
func TestEveryPageAsEveryRole(t *testing.T) {
	r := newRig(t)
	r.start()
	s := r.seed()
	r.stageRollout()
	r.post(people.RoleAdmin, "/bridges", "id", "rack", "devices", "lab-00 lab-01")
	for _, route := range r.console.routes {
		if !strings.HasPrefix(route.pattern, "GET ") {
			continue
		}
		paths := s.fill(route.pattern)
		if len(paths) == 0 {
			t.Errorf("%s: the test has nothing to fill it with", route.pattern)
		}
		for _, path := range paths {
			for _, role := range append(people.Roles(), "") {
				r.checkPage(route, role, path)
			}
		}
	}
}

func (r *rig) checkPage(route route, role people.Role, path string) {
	r.t.Helper()
	w := r.get(role, path)
	op, _ := people.OperationByID(route.operation)
	switch {
	case role == "":
		if w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/sign-in") {
			r.t.Errorf("%s as nobody: %d to %s", path, w.Code, w.Header().Get("Location"))
		}
		return
	case !role.Has(op.Scope):
		if w.Code != http.StatusForbidden {
			r.t.Errorf("%s as %s: %d, want 403", path, role, w.Code)
		}
	case w.Code == http.StatusSeeOther || !strings.Contains(w.Header().Get("Content-Type"), "html") && w.Code == http.StatusOK:
		return // a download, or a wizard's way on
	case w.Code != http.StatusOK:
		r.t.Errorf("%s as %s: %d: %s", path, role, w.Code, w.Body)
	}
	checkHTML(r.t, path+" as "+string(role), w.Body.String())
	r.checkActions(path, role, w.Body.String())
}

// checkHTML holds a page to what every page keeps.
func checkHTML(t testing.TB, where, body string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	headings, ids := 0, map[string]bool{}
	labels, inputs, described := map[string]bool{}, map[string]bool{}, []string{}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if n.Data == "h1" {
			headings++
		}
		for _, a := range n.Attr {
			switch {
			case a.Key == "id" && ids[a.Val]:
				t.Errorf("%s: id %q twice", where, a.Val)
			case a.Key == "style" || strings.HasPrefix(a.Key, "on"):
				t.Errorf("%s: attribute %s, which the policy refuses", where, a.Key)
			case a.Key == "aria-describedby":
				described = append(described, strings.Fields(a.Val)...)
			}
			if a.Key == "id" {
				ids[a.Val] = true
			}
		}
		if n.Data == "label" && attr(n, "for") != "" {
			labels[attr(n, "for")] = true
		}
		needsLabel := slices.Contains([]string{"input", "select", "textarea"}, n.Data) && !slices.Contains([]string{"hidden", "submit"}, attr(n, "type"))
		if needsLabel && attr(n, "aria-label") == "" && attr(n, "aria-labelledby") == "" && !within(n, "label") {
			inputs[attr(n, "id")] = true
		}
		if n.Data == "script" && n.FirstChild != nil {
			t.Errorf("%s: an inline script, which the policy refuses", where)
		}
	}
	if headings != 1 {
		t.Errorf("%s: %d h1", where, headings)
	}
	for id := range inputs {
		if !labels[id] {
			t.Errorf("%s: input %q has no label", where, id)
		}
	}
	for _, id := range described {
		if !ids[id] {
			t.Errorf("%s: aria-describedby %q is nowhere", where, id)
		}
	}
	for _, bad := range []string{"&lt;nil&gt;", "%!", "ZgotmplZ", "0001-01-01", "map["} {
		if strings.Contains(body, bad) {
			t.Errorf("%s: contains %q", where, bad)
		}
	}
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func within(n *html.Node, element string) bool {
	for p := n.Parent; p != nil; p = p.Parent {
		if p.Data == element {
			return true
		}
	}
	return false
}

// checkActions follows every form and link of a page as far as the role's rights
// go: what is shown may be used.
func (r *rig) checkActions(path string, role people.Role, body string) {
	r.t.Helper()
	doc, err := html.Parse(strings.NewReader(body))
	r.ok(err)
	for n := range doc.Descendants() {
		target, method := "", http.MethodGet
		switch {
		case n.Type != html.ElementNode || attr(n, "method") == "dialog" || n.Data == "form" && !canSubmit(n):
		case n.Data == "form":
			if target = attr(n, "action"); target == "" {
				target = path
			}
			if attr(n, "method") == "post" {
				method = http.MethodPost
			}
		case n.Data == "a":
			target = attr(n, "href")
		}
		if !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "/v1/") {
			continue
		}
		u, err := url.Parse(target)
		r.ok(err)
		if route, ok := r.routeOf(method, u.Path); ok && !role.Has(scopeOf(route.operation)) {
			r.t.Errorf("%s as %s: shows %s %s, which takes %s", path, role, method, target, route.operation)
		} else if !ok && !r.isPublic(method, u.Path) {
			r.t.Errorf("%s as %s: shows %s %s, which is nowhere", path, role, method, target)
		}
	}
}

// canSubmit says whether a form has a button that sends it.
func canSubmit(form *html.Node) bool {
	for n := range form.Descendants() {
		if n.Type == html.ElementNode && n.Data == "button" && attr(n, "type") != "button" {
			return true
		}
	}
	return false
}

func scopeOf(operation string) people.Scope {
	op, _ := people.OperationByID(operation)
	return op.Scope
}

func (r *rig) pattern(method, path string) string {
	req, err := http.NewRequestWithContext(background, method, path, nil)
	r.ok(err)
	_, pattern := r.console.mux.Handler(req)
	return pattern
}

func (r *rig) routeOf(method, path string) (route, bool) {
	pattern := r.pattern(method, path)
	i := slices.IndexFunc(r.console.routes, func(rt route) bool { return rt.pattern == pattern })
	if i < 0 {
		return route{}, false
	}
	return r.console.routes[i], true
}

func (r *rig) isPublic(method, path string) bool {
	return r.pattern(method, path) != "/" || path == "/openapi.yaml" || strings.HasPrefix(path, "/sign-in/oidc")
}

var linkPattern = regexp.MustCompile(`(?:href|src)="([^"]+)"`)

// TestEveryLinkLeadsSomewhere follows all links as admin.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	r := newRig(t)
	r.start()
	r.seed()
	r.stageRollout()
	r.post(people.RoleAdmin, "/bridges", "id", "rack", "devices", "lab-00")
	seen, queue := map[string]string{"/": ""}, []string{"/"}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		w := r.get(people.RoleAdmin, path)
		if w.Code >= 400 {
			t.Errorf("%s (linked from %s): %d", path, seen[path], w.Code)
			continue
		}
		if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			continue
		}
		for _, m := range linkPattern.FindAllStringSubmatch(w.Body.String(), -1) {
			link := strings.ReplaceAll(m[1], "&amp;", "&")
			if strings.HasPrefix(link, "?") {
				link = strings.SplitN(path, "?", 2)[0] + link
			}
			link, _, _ = strings.Cut(link, "#")
			if link == "" || strings.HasPrefix(link, "/v1/") || strings.HasPrefix(link, "/openapi") || strings.HasPrefix(link, "data:") {
				continue
			}
			if !strings.HasPrefix(link, "/") {
				t.Errorf("%s links to %s, which is elsewhere", path, link)
				continue
			}
			if _, ok := seen[link]; !ok {
				seen[link] = path
				queue = append(queue, link)
			}
		}
	}
	if len(seen) < 40 {
		t.Errorf("only %d links were found", len(seen))
	}
}
