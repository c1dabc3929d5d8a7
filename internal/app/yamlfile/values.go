package yamlfile

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Want is what a value has to be written as.
type Want int

// What a value has to be written as.
const (
	Text   Want = iota
	Number      // a whole number
	Real        // a number
	Switch      // on or off
	Time        // with a unit
)

// TimeForm is what to do about a time that is written otherwise.
const TimeForm = "write a time such as 90s or 2m"

// Start is where a node begins: the token of a mapping is a colon.
func Start(n ast.Node) *token.Token {
	if pairs := pairsOf(n); len(pairs) > 0 {
		return pairs[0].Key.GetToken()
	}
	return n.GetToken()
}

// Mapping takes a node that has to be key: value pairs. hint says what to do if
// it is something else.
func (r *Reader) Mapping(n ast.Node, field, hint string) ([]*ast.MappingValueNode, bool) {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return pairsOf(n), true
	}
	subject := field
	if subject == "" {
		subject = "this"
	}
	r.Wrong(Start(n), subject, "is %s; %s", KindOf(n), hint)
	return nil, false
}

func pairsOf(n ast.Node) []*ast.MappingValueNode {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}
	}
	return nil
}

// KeyOf is the key of a pair.
func KeyOf(v *ast.MappingValueNode) string { return v.Key.GetToken().Value }

// Members goes through the members of a mapping. Those whose name is one of names,
// that stand once and have a value are given to take; of the others it is noted
// what is wrong.
func (r *Reader) Members(pairs []*ast.MappingValueNode, prefix string, names []string, take func(name string, pair *ast.MappingValueNode)) {
	first := map[string]int{}
	for _, pair := range pairs {
		key, at := KeyOf(pair), pair.Key.GetToken()
		if !slices.Contains(names, key) {
			r.Wrong(at, prefix+Printable(key), "%s", r.unknown(prefix, key, names))
			continue
		}
		if line, double := first[key]; double {
			r.Wrong(at, prefix+key, "stands twice, first in line %d; take one of them out", line)
			continue
		}
		first[key] = at.Position.Line
		if pair.Value.Type() == ast.NullType {
			r.Wrong(at, prefix+key, "has no value; give it one, or take the line out")
			continue
		}
		take(key, pair)
	}
}

// unknown is what is wrong with a name that a mapping cannot have.
func (r *Reader) unknown(prefix, name string, names []string) string {
	if prefix == "" && r.Elsewhere != nil {
		if text := r.Elsewhere(name); text != "" {
			return text
		}
	}
	return "is not known; " + Suggestion(name, names)
}

// Predicate makes an error about a field one that goes on after its name.
func Predicate(name string, err error) string {
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, name+" "); ok {
		return rest
	}
	if rest, ok := strings.CutPrefix(text, name+":"); ok {
		return ":" + rest
	}
	return ": " + text
}

// Scalar is a value as text, if it is written as it has to be. key is where its name
// stands, nil for an entry of a list.
func (r *Reader) Scalar(n ast.Node, key *token.Token, field string, w Want) (string, bool) {
	at := Start(n)
	text, isText := n.(*ast.StringNode)
	switch {
	case w == Number && (n.Type() == ast.IntegerType || at.Type == token.StringType && strings.Trim(at.Value, "0123456789") == ""):
		return at.Value, true // a number that is too long for the parser is text to it
	case w == Number:
		r.Wrong(at, field, "is %s; write a whole number, without quotes", KindOf(n))
	case w == Real && (n.Type() == ast.IntegerType || n.Type() == ast.FloatType):
		return at.Value, true
	case w == Real:
		r.Wrong(at, field, "is %s; write a number such as 5 or 2.5, without quotes and without a unit", KindOf(n))
	case w == Time && n.Type() == ast.IntegerType && at.Value == "0":
		return at.Value, true // as of the flags, the one time that needs no unit
	case w == Time && (n.Type() == ast.IntegerType || n.Type() == ast.FloatType):
		r.Wrong(at, field, "is %s without a unit; "+TimeForm, KindOf(n))
	case w == Switch && n.Type() == ast.BoolType:
		return map[string]string{"true": "on", "false": "off"}[strings.ToLower(at.Value)], true
	case !isText && n.Type() != ast.BoolType && n.Type() != ast.IntegerType && n.Type() != ast.FloatType && n.Type() != ast.InfinityType && n.Type() != ast.NanType:
		r.Wrong(at, field, "is %s; write one value behind the colon", KindOf(n))
	case !isText && key == nil:
		r.Wrong(at, field, "is %s; put it in quotes: %q", KindOf(n), at.Value)
	case !isText:
		r.Wrong(at, field, "is %s; put it in quotes: %s: %q", KindOf(n), key.Value, at.Value)
	case text.Value == "":
		r.Wrong(at, field, "has no value; give it one, or take the line out")
	case strings.ContainsFunc(text.Value, func(c rune) bool { return !unicode.IsPrint(c) }):
		r.Wrong(at, field, "is %s, with characters that cannot be printed; take them out", Printable(text.Value))
	default:
		return text.Value, true
	}
	return "", false
}

// KindOf says in words what a value is.
func KindOf(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a group of settings"
	case ast.SequenceType:
		return "a list"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "a number"
	case ast.BoolType:
		return "a yes or no"
	case ast.NullType:
		return "empty"
	case ast.LiteralType:
		return "a block of text"
	}
	return "text"
}

// maxShown is how much of a text is shown, in bytes.
const maxShown = 60

// Printable is a text as it may be shown on a terminal: as it is, or quoted and
// cut short.
func Printable(s string) string {
	if len(s) > maxShown {
		return strconv.Quote(strings.ToValidUTF8(s[:maxShown], "")) + "..."
	}
	if q := strconv.Quote(s); s == "" || q != `"`+s+`"` {
		return q
	}
	return s
}

// Suggestion names the known field that is written most like name, or all.
func Suggestion(name string, names []string) string {
	if best, ok := Nearest(name, names); ok {
		return "did you mean " + best + "?"
	}
	return "there are " + strings.Join(slices.Sorted(slices.Values(names)), ", ")
}

// Nearest is the one of names that is written most like name, if there is one that is near.
func Nearest(name string, names []string) (string, bool) {
	best, least := "", 1+max(2, len(name)/3)
	for _, n := range slices.Sorted(slices.Values(names)) {
		if d := distance(strings.ToLower(name), n); d < least {
			best, least = n, d
		}
	}
	return best, best != ""
}

// distance is how many letters have to be put in, taken out or changed to make b
// of a (Levenshtein), or len(a) for an a that is much longer.
func distance(a, b string) int {
	if len(a) > 2*len(b)+2 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(change, corner+1, row[j]+1)
		}
	}
	return row[len(b)]
}
