package query

import (
	"strings"

	"github.com/expr-lang/expr/ast"
)

// HintKind is what every device that a query finds has in common.
type HintKind int

// The kinds of hint.
const (
	HintID       HintKind = iota + 1 // its id is Value
	HintIDPrefix                     // its id begins with Value
	HintType                         // its type is Value
	HintOnline                       // it is online
	HintLabel                        // its label Name is Value, which is not empty
	HintVersion                      // its version of image type Name is Value, which is not empty
)

// Hint is a condition that every device meets that the query finds, and that
// an index can answer.
type Hint struct {
	Kind        HintKind
	Name, Value string
}

// Hints returns the conditions that the query's outermost and joins.
func (q *Query) Hints() []Hint { return q.hints }

func hintsOf(n ast.Node) []Hint {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		if n.Value == "online" {
			return []Hint{{Kind: HintOnline}}
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "and", "&&":
			return append(hintsOf(n.Left), hintsOf(n.Right)...)
		case "==":
			return append(equal(n.Left, n.Right), equal(n.Right, n.Left)...)
		case "startsWith":
			if id, ok := n.Left.(*ast.IdentifierNode); ok && id.Value == "id" {
				return textHint(Hint{Kind: HintIDPrefix}, n.Right)
			}
		}
	}
	return nil
}

func equal(field, value ast.Node) []Hint {
	if kind, name, ok := named(field); ok {
		h := Hint{Kind: HintLabel, Name: name}
		if kind == "version" {
			h.Kind = HintVersion
		}
		return textHint(h, value)
	}
	id, ok := field.(*ast.IdentifierNode)
	if !ok {
		return nil
	}
	switch id.Value {
	case "id":
		return textHint(Hint{Kind: HintID}, value)
	case "type":
		return textHint(Hint{Kind: HintType}, value)
	case "online":
		if b, ok := value.(*ast.BoolNode); ok && b.Value {
			return []Hint{{Kind: HintOnline}}
		}
	}
	return nil
}

// textHint completes a hint with a text. An empty one says nothing: a missing
// label is "" as well. NUL separates the parts of keys and stands in no record.
func textHint(h Hint, value ast.Node) []Hint {
	s, ok := value.(*ast.StringNode)
	if !ok || s.Value == "" || strings.ContainsRune(h.Name+s.Value, 0) {
		return nil
	}
	h.Value = s.Value
	return []Hint{h}
}
