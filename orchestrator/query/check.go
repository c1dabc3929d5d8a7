package query

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
)

// maxAge is the longest time that ago takes: a hundred years.
const maxAge = 100 * 365 * 24 * time.Hour

// check parses the text, refuses what is not part of the language, and notes the
// ages and the hints.
func (q *Query) check() error {
	config := conf.CreateNew()
	config.MaxNodes = maxNodes
	tree, err := parser.ParseWithConfig(q.text, config)
	if err != nil {
		return compileError(err)
	}
	c := checker{ages: q.ages}
	if err := c.node(tree.Node); err != nil {
		return compileError(err.Bind(tree.Source))
	}
	q.hints = hintsOf(tree.Node)
	return nil
}

// compileError makes our error of the library's.
func compileError(err error) error {
	var f *file.Error
	if !errors.As(err, &f) {
		return &Error{1, 1, plain(err.Error())}
	}
	return &Error{max(f.Line, 1), f.Column + 1, plain(f.Message)}
}

// plain says in the words of this language what the library says in those of Go.
func plain(message string) string {
	words := strings.NewReplacer("time.Time", "time", "string", "text", "bool", "yes or no", "mismatched types", "it cannot go between")
	switch {
	case strings.HasPrefix(message, "invalid operation: "):
		return words.Replace(strings.TrimPrefix(message, "invalid operation: "))
	case strings.HasPrefix(message, "expected bool, but got "):
		return "the query has to say yes or no of a device, and this is a " + words.Replace(strings.TrimPrefix(message, "expected bool, but got "))
	case message == "unexpected token EOF":
		return "the query ends where something more is expected"
	}
	return message
}

func wrong(n ast.Node, format string, args ...any) *file.Error {
	return &file.Error{Location: n.Location(), Message: fmt.Sprintf(format, args...)}
}

// checker lets through what is part of the language; what the library's check of
// types refuses anyway it leaves to that.
type checker struct{ ages map[string]time.Duration }

func (c checker) node(n ast.Node) *file.Error {
	switch n := n.(type) {
	case *ast.StringNode, *ast.BoolNode:
		return nil
	case *ast.IdentifierNode:
		return name(n)
	case *ast.MemberNode:
		return member(n)
	case *ast.UnaryNode:
		if n.Operator != "not" && n.Operator != "!" {
			return wrong(n, "%q is not part of the language; known are %s", n.Operator, operators)
		}
		return c.node(n.Node)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.CallNode:
		if f, ok := n.Callee.(*ast.IdentifierNode); ok {
			return c.call(n, f.Value, n.Arguments)
		}
		return wrong(n, "only ago(\"24h\") and now() can be called")
	case *ast.BuiltinNode:
		return c.call(n, n.Name, n.Arguments)
	case *ast.IntegerNode, *ast.FloatNode:
		return wrong(n, "numbers are written as text, in quotes, for example \"2.0\"")
	case *ast.NilNode:
		return wrong(n, "nothing is ever nil; a label or version that is missing is \"\"")
	case *ast.ArrayNode:
		return wrong(n, "a list can only stand after in")
	}
	return wrong(n, "this is not part of the language; known operators are %s", operators)
}

const operators = "and, or, not, ==, !=, <, <=, >, >=, in, startsWith, endsWith and contains"

func name(n *ast.IdentifierNode) *file.Error {
	var names []string
	for _, f := range Fields() {
		if f.Name == n.Value {
			if f.Type == "texts by name" {
				return wrong(n, "%s needs a name: %s.NAME or %s[\"NAME\"]", n.Value, n.Value, n.Value)
			}
			return nil
		}
		names = append(names, f.Name)
	}
	return wrong(n, "unknown name %q; known are %s (text is written in quotes)", n.Value, strings.Join(names, ", "))
}

// isNamed says whether a node is label or version.
func isNamed(n ast.Node) bool {
	id, ok := n.(*ast.IdentifierNode)
	return ok && (id.Value == "label" || id.Value == "version")
}

// named takes label.NAME and version.NAME apart.
func named(n ast.Node) (field, name string, ok bool) {
	m, ok := n.(*ast.MemberNode)
	if !ok || m.Optional || !isNamed(m.Node) {
		return "", "", false
	}
	property, ok := m.Property.(*ast.StringNode)
	if !ok {
		return "", "", false
	}
	return m.Node.(*ast.IdentifierNode).Value, property.Value, true
}

func member(n *ast.MemberNode) *file.Error {
	if _, _, ok := named(n); ok {
		return nil
	}
	if isNamed(n.Node) {
		return wrong(n, "the name has to be written out, for example label.site or label[\"with-dash\"]")
	}
	if id, ok := n.Node.(*ast.IdentifierNode); ok {
		if err := name(id); err != nil {
			return err
		}
	}
	return wrong(n, "only label and version have something behind a dot or in brackets")
}

func (c checker) binary(n *ast.BinaryNode) *file.Error {
	switch n.Operator {
	case "in":
		return c.in(n)
	case "<", "<=", ">", ">=":
		if err := c.ordered(n, n.Left, n.Right); err != nil {
			return err
		}
		if err := c.ordered(n, n.Right, n.Left); err != nil {
			return err
		}
	case "and", "&&", "or", "||", "==", "!=", "startsWith", "endsWith", "contains":
	default:
		return wrong(n, "%q is not part of the language; known are %s", n.Operator, operators)
	}
	if err := c.node(n.Left); err != nil {
		return err
	}
	return c.node(n.Right)
}

// ordered checks what a version is compared with.
func (c checker) ordered(n, version, other ast.Node) *file.Error {
	if field, _, _ := named(version); field != "version" {
		return nil
	}
	switch o := other.(type) {
	case *ast.StringNode:
		if o.Value == "" {
			return wrong(n, "a version is never before or after \"\", which means not reported; use == or !=")
		}
	case *ast.MemberNode, *ast.IntegerNode, *ast.FloatNode:
	default:
		return wrong(other, "a version can only be compared with a version, for example \"2.0\"")
	}
	return nil
}

func (c checker) in(n *ast.BinaryNode) *file.Error {
	if err := c.node(n.Left); err != nil {
		return err
	}
	if isNamed(n.Right) {
		return nil
	}
	list, ok := n.Right.(*ast.ArrayNode)
	if !ok {
		return wrong(n.Right, "after in stands a list of texts, for example [\"a\", \"b\"], or label or version")
	}
	for _, e := range list.Nodes {
		if _, ok := e.(*ast.StringNode); !ok {
			return wrong(e, "a list can only hold texts in quotes")
		}
	}
	return nil
}

func (c checker) call(n ast.Node, f string, args []ast.Node) *file.Error {
	switch {
	case f == "now" && len(args) == 0:
		return nil
	case f == "now":
		return wrong(n, "now takes nothing: now()")
	case f != "ago":
		return wrong(n, "unknown function %q; known are ago(\"24h\") and now()", f)
	}
	if len(args) == 1 {
		if age, ok := args[0].(*ast.StringNode); ok {
			d, err := parseAge(age.Value)
			if err != nil {
				return wrong(age, "%v", err)
			}
			c.ages[age.Value] = d
			return nil
		}
	}
	return wrong(n, "ago takes one time in quotes, for example ago(\"24h\") or ago(\"7d\")")
}

// parseAge reads a time as Go writes it, or whole days or weeks.
func parseAge(s string) (time.Duration, error) {
	fail := func() (time.Duration, error) {
		return 0, fmt.Errorf("%q is not a time; write for example 90s, 15m, 24h, 7d or 2w, at most 36500d", s)
	}
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseUint(number, 10, 32)
			if err != nil || n > uint64(maxAge/length) {
				return fail()
			}
			return time.Duration(n) * length, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > maxAge {
		return fail()
	}
	return d, nil
}

// byVersion rewrites <, <=, > and >= of versions.
type byVersion struct{}

// Visit implements ast.Visitor.
func (byVersion) Visit(node *ast.Node) {
	n, ok := (*node).(*ast.BinaryNode)
	if !ok || !slices.ContainsFunc([]ast.Node{n.Left, n.Right}, func(side ast.Node) bool {
		field, _, _ := named(side)
		return field == "version"
	}) {
		return
	}
	call := func(f string, a, b ast.Node) {
		ast.Patch(node, &ast.CallNode{Callee: &ast.IdentifierNode{Value: f}, Arguments: []ast.Node{a, b}})
	}
	switch n.Operator {
	case "<":
		call("version_before", n.Left, n.Right)
	case ">":
		call("version_before", n.Right, n.Left)
	case "<=":
		call("version_not_after", n.Left, n.Right)
	case ">=":
		call("version_not_after", n.Right, n.Left)
	}
}
