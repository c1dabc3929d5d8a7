package gateway

import (
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// bodySchema is the schema of a JSON body, which tells how to read huma's
// locations: in "body.labels.a.b" only the schema knows that "a.b" is one name.
type bodySchema struct {
	schema   *huma.Schema
	registry huma.Registry
}

// pointer turns a location of huma's into a JSON pointer (RFC 6901); "" if it
// is not inside the body. What is missing is pointed at where it should be.
func (b *bodySchema) pointer(location, message string) string {
	if strings.HasPrefix(location, "/") {
		return location
	}
	rest, inside := strings.CutPrefix(location, "body")
	if !inside || rest != "" && rest[0] != '.' && rest[0] != '[' {
		return ""
	}
	var s *huma.Schema
	if b != nil {
		s = b.resolve(b.schema)
	}
	var p strings.Builder
	for rest != "" {
		var token string
		if list, ok := strings.CutPrefix(rest, "["); ok {
			token, rest, _ = strings.Cut(list, "]")
			if s != nil {
				s = b.resolve(s.Items)
			}
		} else {
			token, rest, s = b.member(s, strings.TrimPrefix(rest, "."))
		}
		p.WriteString("/" + escapePointer(token))
	}
	if name, ok := strings.CutPrefix(message, "expected required property "); ok {
		p.WriteString("/" + escapePointer(strings.TrimSuffix(name, " to be present")))
	}
	return p.String()
}

// member takes the name of a member of an object from the beginning of a
// location, and returns the rest and the member's schema, nil if it is not known.
func (b *bodySchema) member(s *huma.Schema, text string) (name, rest string, next *huma.Schema) {
	if s == nil {
		end := strings.IndexAny(text, ".[")
		if end < 0 {
			end = len(text)
		}
		return text[:end], text[end:], nil
	}
	for n, property := range s.Properties {
		after, ok := strings.CutPrefix(text, n)
		if ok && len(n) > len(name) && (after == "" || after[0] == '.' || after[0] == '[') {
			name, rest, next = n, after, b.resolve(property)
		}
	}
	if name != "" {
		return name, rest, next
	}
	// A name that the schema does not have, or one of a map of plain values.
	return text, "", nil
}

func (b *bodySchema) resolve(s *huma.Schema) *huma.Schema {
	if s != nil && s.Ref != "" {
		return b.registry.SchemaFromRef(s.Ref)
	}
	return s
}

func escapePointer(token string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(token)
}
