package gateway_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// schema is what the generator reads of a JSON Schema.
type schema struct {
	Ref        string             `json:"$ref"`
	Type       any                `json:"type"` // a name or a list of names
	Format     string             `json:"format"`
	Pattern    string             `json:"pattern"`
	Enum       []any              `json:"enum"`
	Items      *schema            `json:"items"`
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	Additional any                `json:"additionalProperties"`
}

func (s *schema) is(name string) bool {
	list, ok := s.Type.([]any)
	return s.Type == name || ok && slices.Contains(list, any(name))
}

type media struct {
	Schema *schema `json:"schema"`
}

// operation is what the generator reads of an operation.
type operation struct {
	ID         string `json:"operationId"`
	Parameters []struct {
		Name     string  `json:"name"`
		In       string  `json:"in"`
		Required bool    `json:"required"`
		Schema   *schema `json:"schema"`
	} `json:"parameters"`
	Body *struct {
		Content map[string]media `json:"content"`
	} `json:"requestBody"`
	Responses map[string]struct {
		Content map[string]media `json:"content"`
	} `json:"responses"`

	method, path string
}

type document struct {
	Paths      map[string]map[string]*operation `json:"paths"`
	Components struct {
		Schemas map[string]*schema `json:"schemas"`
	} `json:"components"`
}

// operations are all of them in one order.
func (d *document) operations() []*operation {
	var all []*operation
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
			op := d.Paths[path][method]
			op.method, op.path = strings.ToUpper(method), path
			all = append(all, op)
		}
	}
	return all
}

// generator makes requests: good ones out of the document and of records that
// exist, and bad ones out of these by changing something.
type generator struct {
	*rand.Rand
	doc   *document
	known map[string][]any // values that make sense, by the name of a field or parameter
	fresh int
}

// made is a generated request.
type made struct {
	op          *operation
	path        string // as it is sent
	query       string
	header      http.Header
	contentType string
	body        []byte
}

func (m made) String() string {
	body := string(m.body)
	if len(body) > 300 {
		body = fmt.Sprintf("%s... (%d bytes)", body[:300], len(body))
	}
	return fmt.Sprintf("%s: %s %.300q?%.300q %v %s %q", m.op.ID, m.op.method, m.path, m.query, m.header, m.contentType, body)
}

func pick[T any](g *generator, from []T) T { return from[g.IntN(len(from))] }

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

// evil are strings that programs stumble over.
func (g *generator) evil() string {
	return pick(g, []string{
		"", " ", "\x00", "a\x00b", "../../../../etc/passwd", "..", ".", "/", "//", `..\..\x`, "%2e%2e%2f", "a/b", "-1", "0", "1e999", "NaN", "null", "true",
		"18446744073709551616", "-9223372036854775809", "é", "\u202e\u0000", "ｆｕｌｌ", "💥", "\ufeffx", "a\r\nSet-Cookie: x=1", "'; DROP TABLE devices; --", "<script>alert(1)</script>",
		"${jndi:ldap://x}", "{{7*7}}", "%s%s%n", "\xff\xfe", "con", "x y", strings.Repeat("A", 65), strings.Repeat("ä", 5000), strings.Repeat("9", 400), "2020-13-45T99:99:99Z", "P1D", `"`, `W/"1"`, "*",
	})
}

// value is a good value for a schema; name is that of the field or parameter.
func (g *generator) value(s *schema, name string, depth int) any {
	if s.Ref != "" {
		s = g.doc.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]]
	}
	if list := g.known[name]; len(list) > 0 && !s.is("array") && !s.is("object") {
		return pick(g, list)
	}
	switch {
	case len(s.Enum) > 0:
		return pick(g, s.Enum)
	case s.is("array"):
		list := []any{}
		for range g.IntN(3) {
			list = append(list, g.value(s.Items, strings.TrimSuffix(name, "s"), depth+1))
		}
		return list
	case s.is("object"):
		return g.object(s, name, depth)
	case s.is("string"):
		if s.Format == "date-time" {
			return "2026-03-01T12:00:00Z"
		}
		if s.Pattern != "" { // a duration
			return pick(g, []string{"90s", "1h", "0s"})
		}
		return pick(g, []string{"a", "north", "1.2.3", "some text", ""})
	case s.is("integer"), s.is("number"):
		return g.IntN(50)
	case s.is("boolean"):
		return g.chance(50)
	}
	return "anything"
}

func (g *generator) object(s *schema, name string, depth int) any {
	o := map[string]any{}
	for _, field := range slices.Sorted(maps.Keys(s.Properties)) {
		if slices.Contains(s.Required, field) || g.chance(40) {
			if field == "id" || name == "body" && field == "name" {
				g.fresh++
				o[field] = fmt.Sprintf("new-%d", g.fresh)
				continue
			}
			o[field] = g.value(s.Properties[field], field, depth+1)
		}
	}
	if sub, ok := s.Additional.(map[string]any); ok && sub["type"] == "string" {
		o["site"] = "north"
	}
	return o
}

// request makes one request for an operation, spoiled in so many places.
func (g *generator) request(op *operation, spoil int) made {
	m := made{op: op, path: op.path, header: http.Header{}}
	query := url.Values{}
	for _, p := range op.Parameters {
		v := fmt.Sprint(g.value(p.Schema, p.Name, 0))
		before, _, _ := strings.Cut(op.path, "{"+p.Name+"}")
		if list := g.known[before]; p.In == "path" && len(list) > 0 {
			v = fmt.Sprint(pick(g, list)) // of the right kind
		}
		if p.Schema.is("array") && len(g.known[p.Name]) > 0 {
			v = fmt.Sprint(pick(g, g.known[p.Name]))
		}
		switch {
		case p.In == "path":
			m.path = strings.Replace(m.path, "{"+p.Name+"}", url.PathEscape(v), 1)
		case p.Name == "wait" || p.Required || g.chance(25):
			if p.In == "query" {
				query.Set(p.Name, v)
			} else {
				m.header.Set(p.Name, v)
			}
		}
	}
	if op.Body != nil {
		m.contentType = slices.Sorted(maps.Keys(op.Body.Content))[g.IntN(len(op.Body.Content))]
		m.body = g.body(op.Body.Content[m.contentType].Schema, m.contentType)
	}
	for range spoil {
		g.spoil(&m, query)
	}
	m.query = query.Encode()
	if spoil > 0 && g.chance(3) {
		m.query += pick(g, []string{"&%zz", "&=&&=", ";a=b", "&limit=1&limit=2", "&limit=%00"})
	}
	return m
}

func (g *generator) body(s *schema, contentType string) []byte {
	switch contentType {
	case "application/json":
		b, err := json.Marshal(g.value(s, "body", 0))
		if err != nil {
			panic(err)
		}
		return b
	case "text/csv":
		g.fresh++
		return fmt.Appendf(nil, "id,type,site\r\nnew-%d,pump,north\r\n", g.fresh)
	}
	return []byte(":00000001FF\n"[:g.IntN(12)] + "firmware")
}

// spoil changes one thing of a request.
func (g *generator) spoil(m *made, query url.Values) {
	switch n := g.IntN(10); {
	case n < 2 && strings.Contains(m.op.path, "{"):
		from := strings.Index(m.op.path, "{")
		_, rest, _ := strings.Cut(m.op.path[from:], "}")
		m.path = m.op.path[:from] + url.PathEscape(g.evil()) + rest
	case n < 4 && len(m.op.Parameters) > 0:
		p := pick(g, m.op.Parameters)
		switch {
		case p.In == "query" && p.Name == "wait": // a good one would wait
			query.Set("wait", pick(g, []string{"", "-1s", "9999h", "x"}))
		case p.In == "query" && g.chance(20):
			query.Del(p.Name)
		case p.In == "query":
			query.Add(p.Name, g.evil())
		case p.In == "header":
			m.header.Add(p.Name, strings.Map(func(r rune) rune {
				if r < ' ' {
					return -1 // net/http lets no such header in
				}
				return r
			}, g.evil()))
		}
	case n < 5:
		query.Add(pick(g, []string{"limit", "after", "unknown", "q\x00", ""}), pick(g, []string{"-1", "0", "1001", "99999999999999999999", "x", g.evil()}))
	case n < 6 && m.op.Body != nil:
		m.contentType = pick(g, []string{"", "text/plain", "application/xml", "application/json; charset=latin1", "multipart/form-data", "application/cbor", "\x7f", "a/b/c", "text/csv"})
	case n < 7 && m.op.Body != nil:
		m.body = g.garbage(m.body)
	case m.op.Body != nil:
		m.body = g.spoilJSON(m.body)
	}
}

// garbage is a body that is broken as a whole.
func (g *generator) garbage(good []byte) []byte {
	return pick(g, [][]byte{
		nil, []byte("{"), []byte("[]"), []byte("null"), []byte(`"text"`), []byte("42"), []byte("{}{}"), []byte("\xef\xbb\xbf{}"), {0xff, 0xfe, 0},
		bytes.Repeat([]byte("["), 20_000), bytes.Repeat([]byte(`{"a":`), 5_000), good[:len(good)/2], append(bytes.Clone(good), "trailing"...),
		[]byte("id,type\n\"broken"), []byte("type\nx\n"), []byte("id,type,type\n"), []byte("id,type\na,b,c\n"), []byte("id,type\n\x00,\xff\n"), []byte("\n\n\n"),
		[]byte(`{"id":"a","id":"b"}`), []byte(`{"ID":"a"}`),
	})
}

// spoilJSON changes one value somewhere inside.
func (g *generator) spoilJSON(good []byte) []byte {
	var v any
	if json.Unmarshal(good, &v) != nil {
		return append(good, g.evil()...)
	}
	b, err := json.Marshal(g.spoilValue(v))
	if err != nil {
		return good
	}
	return b
}

func (g *generator) spoilValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		switch {
		case g.chance(15):
			v[pick(g, []string{"unknown", "", "__proto__", "id\x00", "if_revision", "IfRevision", "revision"})] = g.anything()
		case len(keys) == 0:
			return g.anything()
		case g.chance(20):
			delete(v, pick(g, keys))
		default:
			key := pick(g, keys)
			v[key] = g.spoilValue(v[key])
		}
		return v
	case []any:
		if len(v) == 0 || g.chance(50) {
			return append(v, g.anything())
		}
		i := g.IntN(len(v))
		v[i] = g.spoilValue(v[i])
		return v
	}
	return g.anything()
}

func (g *generator) anything() any {
	return pick(g, []any{
		nil, true, -1, 0, 1e308, -1e-300, int64(1) << 62, json.Number("18446744073709551616"), "", g.evil(), g.evil(), g.evil(),
		[]any{}, map[string]any{}, []any{nil}, map[string]any{"": nil}, []any{[]any{[]any{}}}, strings.Repeat("x", 100_000), map[string]any{g.evil(): g.evil()},
		slices.Repeat([]any{"pump-1"}, 2000), []any{"pump-1", "pump-1"},
	})
}
