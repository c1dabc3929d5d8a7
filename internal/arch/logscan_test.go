package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// logScan is what was found of log calls.
type logScan struct {
	words words
	fset  *token.FileSet
	calls int
	uses  map[string][]logUse // by the event's constant
	keys  map[string]bool
	wrong []string
	// wrappers are functions that are handed an event and log it, by name.
	wrappers map[string]logUse
	handed   []handedEvent
}

// logUse is one call that logs an event.
type logUse struct {
	level string
	keys  []string
}

// handedEvent is an event that is given to a function of ours.
type handedEvent struct {
	constant, function string
	keys               []string
}

func newLogScan(w words) *logScan {
	return &logScan{words: w, fset: token.NewFileSet(), uses: map[string][]logUse{}, keys: map[string]bool{}, wrappers: map[string]logUse{}}
}

func scanLogs(t *testing.T) *logScan {
	t.Helper()
	s := newLogScan(readWords(t))
	for _, src := range sources(t) {
		if src.test || src.folder == vocabulary {
			continue
		}
		name := src.folder + "/" + src.name
		f, err := parser.ParseFile(s.fset, filepath.Join(root, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.file(name, f)
	}
	for _, h := range s.handed {
		u, ok := s.wrappers[h.function]
		if !ok {
			s.wrong = append(s.wrong, fmt.Sprintf("%s is handed to %s, which does not log it", h.constant, h.function))
			continue
		}
		s.uses[h.constant] = append(s.uses[h.constant], logUse{u.level, append(slices.Clone(u.keys), h.keys...)})
	}
	return s
}

func (s *logScan) complain(n ast.Node, format string, args ...any) {
	p := s.fset.Position(n.Pos())
	s.wrong = append(s.wrong, fmt.Sprintf("%s:%d: ", strings.TrimPrefix(p.Filename, root+"/"), p.Line)+fmt.Sprintf(format, args...))
}

func (s *logScan) file(_ string, f *ast.File) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			ast.Inspect(d, func(n ast.Node) bool { s.names(n); return true })
			continue
		}
		c := logFunction{scan: s, file: f, name: fn.Name.Name, node: fn}
		ast.Inspect(fn, func(n ast.Node) bool { s.names(n); c.visit(n); return true })
		c.end()
	}
}

// names complains of a logger under a name that hides it.
func (s *logScan) names(n ast.Node) {
	switch n := n.(type) {
	case *ast.Field:
		star, ok := n.Type.(*ast.StarExpr)
		if !ok || !isSelector(star.X, "slog", "Logger") {
			return
		}
		for _, name := range n.Names {
			if !loggerName.MatchString(name.Name) {
				s.complain(n, "the logger %s has to be called log or logger", name.Name)
			}
		}
	case *ast.AssignStmt:
		for i, right := range n.Rhs {
			call, ok := right.(*ast.CallExpr)
			if !ok || i >= len(n.Lhs) {
				continue
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			made := ok && (sel.Sel.Name == "With" && loggerName.MatchString(lastName(sel.X)) || isSelector(call.Fun, "slog", "New"))
			if made && !loggerName.MatchString(lastName(n.Lhs[i])) {
				s.complain(n, "a logger has to be called log or logger")
			}
		}
	}
}

// logFunction looks at one function.
type logFunction struct {
	scan *logScan
	name string
	node *ast.FuncDecl
	file *ast.File
	// loose are uses whose event is a variable, and handed the constants that the
	// function names outside of a call that logs or hands them on.
	loose  []logUse
	direct map[*ast.SelectorExpr]bool
	record bool // it makes a record by hand
}

func (c *logFunction) visit(n ast.Node) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		c.handed(call, lastName(call.Fun))
		return
	}
	at, logs := messageAt[sel.Sel.Name]
	switch {
	case isSelector(call.Fun, "slog", "NewRecord"):
		c.record = true
	case logs && isName(sel.X, "slog"):
		c.scan.complain(call, "the process has no default logger; take one as an argument")
	case sel.Sel.Name == "With" && loggerName.MatchString(lastName(sel.X)):
		c.keysOf(call.Args)
	case sel.Sel.Name == "AddAttrs":
		c.logged(call, "info", call.Args)
	case logs && loggerName.MatchString(lastName(sel.X)) && len(call.Args) > at:
		level := strings.ToLower(strings.TrimSuffix(sel.Sel.Name, "Context"))
		if strings.HasPrefix(level, "log") {
			level = "info or debug"
		}
		c.scan.calls++
		c.logged(call, level, c.flat(call.Args[at+1:]))
	default:
		c.handed(call, sel.Sel.Name)
	}
}

// flat is the arguments with those of append in their places.
func (c *logFunction) flat(args []ast.Expr) []ast.Expr {
	var all []ast.Expr
	for _, a := range args {
		call, ok := a.(*ast.CallExpr)
		if !ok || !isName(call.Fun, "append") {
			all = append(all, a)
			continue
		}
		if l, ok := call.Args[0].(*ast.CompositeLit); ok {
			all = append(all, l.Elts...)
		} else {
			c.spread()
		}
		all = append(all, call.Args[1:]...)
	}
	return all
}

// logged takes a call that logs.
func (c *logFunction) logged(call *ast.CallExpr, level string, args []ast.Expr) {
	keys, event := c.pairs(args)
	u := logUse{level, keys}
	if sel, ok := event.(*ast.CallExpr); ok && isSelector(sel.Fun, "logevent", "Execution") {
		for constant := range c.scan.words.events {
			if strings.HasPrefix(c.scan.words.events[constant], "execution.") && slices.Contains(executionStates, strings.TrimPrefix(c.scan.words.events[constant], "execution.")) {
				c.scan.uses[constant] = append(c.scan.uses[constant], u)
			}
		}
		return
	}
	switch e := event.(type) {
	case *ast.SelectorExpr:
		if !isName(e.X, "logevent") || c.scan.words.events[e.Sel.Name] == "" {
			c.scan.complain(call, "the event is not one of internal/logevent")
			return
		}
		c.mark(e)
		c.scan.uses[e.Sel.Name] = append(c.scan.uses[e.Sel.Name], u)
	case *ast.Ident:
		c.loose = append(c.loose, u)
		c.scan.wrappers[c.name] = u
	default:
		if lastName(call.Fun) == "AddAttrs" {
			return // the cause of a record that has its event already; end sees to that
		}
		c.scan.complain(call, `the record has no event: put "event", logevent.X behind the message`)
	}
}

// executionStates are those that logevent.Execution knows.
var executionStates = []string{"queued", "offered", "accepted", "downloading", "downloaded", "installing", "booting", "succeeded", "rejected", "failed", "timed_out", "canceled"}

func (c *logFunction) mark(e *ast.SelectorExpr) {
	if c.direct == nil {
		c.direct = map[*ast.SelectorExpr]bool{}
	}
	c.direct[e] = true
}

// keysOf checks the keys of a list of attributes.
func (c *logFunction) keysOf(args []ast.Expr) { c.pairs(args) }

// pairs reads keys and values, and attributes, and returns the keys and what
// the key "event" has.
func (c *logFunction) pairs(args []ast.Expr) (keys []string, event ast.Expr) {
	for i := 0; i < len(args); i++ {
		a := args[i]
		if call, ok := a.(*ast.CallExpr); ok {
			sel, isSel := call.Fun.(*ast.SelectorExpr)
			switch {
			case isSel && isName(sel.X, "slog") && len(call.Args) > 0:
				keys = append(keys, c.key(a, literal(call.Args[0])))
				continue
			case isSel && sel.Sel.Name == "Attr":
				event = sel.X
				continue
			}
		}
		if i == len(args)-1 && literal(a) == "" {
			c.spread() // a list, with "..."
			continue
		}
		key := c.key(a, literal(a))
		keys = append(keys, key)
		if key == "part" && i+1 < len(args) {
			if part := literal(args[i+1]); c.scan.words.parts[part] == "" {
				c.scan.complain(a, "internal/logevent has no part %q", part)
			}
		}
		if key == "event" && i+1 < len(args) {
			event = args[i+1]
		}
		i++
	}
	return keys, event
}

// key checks one key.
func (c *logFunction) key(at ast.Node, key string) string {
	if c.scan.words.keys[key] == "" {
		c.scan.complain(at, "the key %q is not one of internal/logevent", key)
	}
	c.scan.keys[key] = true
	return key
}

// spread checks the lists of attributes that the file makes for a call that takes
// them with "...".
func (c *logFunction) spread() {
	ast.Inspect(c.file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && isName(call.Fun, "append") {
			c.pairs(attributes(call.Args[1:]))
		}
		if l, ok := n.(*ast.CompositeLit); ok && len(l.Elts) > 1 && len(l.Elts)%2 == 0 && literal(l.Elts[0]) != "" {
			if array, ok := l.Type.(*ast.ArrayType); ok && isName(array.Elt, "any") {
				for i := 0; i < len(l.Elts); i += 2 {
					c.key(l.Elts[i], literal(l.Elts[i]))
				}
			}
		}
		return true
	})
}

// attributes are those of the expressions that make an attribute.
func attributes(all []ast.Expr) []ast.Expr {
	return slices.DeleteFunc(slices.Clone(all), func(e ast.Expr) bool {
		call, ok := e.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		return !ok || !isName(sel.X, "slog")
	})
}

// handed remembers events that are given to a function of ours.
func (c *logFunction) handed(call *ast.CallExpr, function string) {
	if function == "append" {
		return // it is in a call that logs, or its list is
	}
	for i, a := range call.Args {
		e, ok := a.(*ast.SelectorExpr)
		if !ok || !isName(e.X, "logevent") || c.scan.words.events[e.Sel.Name] == "" {
			continue
		}
		c.mark(e)
		h := handedEvent{constant: e.Sel.Name, function: function}
		for _, b := range call.Args[i+1:] {
			if key := literal(b); c.scan.words.keys[key] != "" {
				h.keys = append(h.keys, key)
				c.scan.keys[key] = true
			}
		}
		c.scan.handed = append(c.scan.handed, h)
	}
}

// end gives the constants that stand in a variable to the calls that log it.
func (c *logFunction) end() {
	attr := false
	ast.Inspect(c.node, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && lastName(call.Fun) == "Attr" {
			attr = true
		}
		e, ok := n.(*ast.SelectorExpr)
		if !ok || !isName(e.X, "logevent") || c.scan.words.events[e.Sel.Name] == "" || c.direct[e] {
			return true
		}
		c.scan.uses[e.Sel.Name] = append(c.scan.uses[e.Sel.Name], c.loose...)
		return true
	})
	if c.record && !attr {
		c.scan.complain(c.node, "a record is made by hand without an event")
	}
}

func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func isName(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func isSelector(e ast.Expr, pkg, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	return ok && isName(sel.X, pkg) && sel.Sel.Name == name
}
