package schemas

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// field is a property of a JSON Schema, as far as the document shows it.
type field struct {
	Ref         string `json:"$ref"`
	Type        string
	Const       any
	Enum        []any
	Minimum     *int64
	Maximum     *uint64
	MaxLength   int `json:"maxLength"`
	Pattern     string
	Format      string
	Description string
	AnyOf       []field `json:"anyOf"`
	OneOf       []field `json:"oneOf"`
	Properties  map[string]field
	Required    []string
	Items       *field
	MaxItems    int              `json:"maxItems"`
	MaxProps    int              `json:"maxProperties"`
	Defs        map[string]field `json:"$defs"`
}

// payloadTypes are the Go types of the JSON payloads: the order of their fields is that of the document.
var payloadTypes = map[Kind]reflect.Type{
	KindHello: reflect.TypeFor[Hello](), KindPresence: reflect.TypeFor[Presence](), KindOffer: reflect.TypeFor[Offer](), KindFetch: reflect.TypeFor[Fetch](),
	KindStatus: reflect.TypeFor[Status](), KindAck: reflect.TypeFor[Ack](), KindProfile: reflect.TypeFor[Profile](), KindClaim: reflect.TypeFor[Claim](),
	KindClaimed: reflect.TypeFor[Claimed](), KindRotate: reflect.TypeFor[Rotate](), KindRotated: reflect.TypeFor[Rotated](),
}

// fieldNames are the JSON names of a struct's fields in their order.
func fieldNames(t reflect.Type) (names []string, types map[string]reflect.Type) {
	types = map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
		types[name] = t.Field(i).Type
	}
	return names, types
}

// fields writes the table of a message's fields. Each has its meaning in the schema.
func (p *protocolDocument) fields(k Kind) {
	var schema field
	if err := json.Unmarshal(JSONSchema(k), &schema); err != nil {
		p.t.Fatal(err)
	}
	p.printf("| field | type | | meaning |\n|---|---|---|---|\n")
	p.rows(string(k), "", payloadTypes[k], schema, schema.Defs)
	p.printf("\n")
}

func (p *protocolDocument) rows(at, prefix string, t reflect.Type, schema field, defs map[string]field) {
	names, types := fieldNames(t)
	if len(names) != len(schema.Properties) {
		p.t.Errorf("%s: %d fields in Go, %d in the schema", at, len(names), len(schema.Properties))
	}
	for _, name := range names {
		f, ok := schema.Properties[name]
		if !ok {
			p.t.Errorf("%s: the schema has no %s", at, prefix+name)
		}
		needed := "optional"
		if slices.Contains(schema.Required, name) {
			needed = "always"
		}
		meaning := strings.ReplaceAll(f.Description, "|", `\|`)
		if meaning == "" {
			p.t.Errorf("%s: %s has no description in the schema", at, prefix+name)
		}
		p.printf("| `%s%s` | %s | %s | %s |\n", prefix, name, typeOf(f, defs), needed, meaning)
		switch {
		case f.Properties != nil:
			p.rows(at, prefix+name+".", types[name], f, defs)
		case f.Items != nil && f.Items.Properties != nil:
			p.rows(at, prefix+name+"[].", types[name].Elem(), *f.Items, defs)
		}
	}
}

// typeOf says in words what a field may be.
func typeOf(f field, defs map[string]field) string {
	switch {
	case f.Ref != "":
		return "id"
	case f.Const != nil:
		return fmt.Sprint(f.Const)
	case f.Enum != nil:
		var values []string
		for _, v := range f.Enum {
			if v != "" {
				values = append(values, fmt.Sprintf("`%v`", v))
			}
		}
		return strings.Join(values, ", ")
	case f.Type == "array":
		return fmt.Sprintf("list of at most %d", f.MaxItems)
	case f.Type == "object" && f.MaxProps > 0:
		return fmt.Sprintf("object of at most %d texts", f.MaxProps)
	case f.Type == "integer":
		return "integer" + rangeOf(f)
	case f.Format == "date-time":
		return "time, RFC 3339"
	case f.Type == "string" && f.MaxLength > 0:
		return fmt.Sprintf("text of at most %d bytes", f.MaxLength)
	case f.Type == "string" && strings.Contains(f.Pattern, "{64}"):
		return "64 hexadecimal digits"
	case f.Type == "string" && f.Pattern != "":
		return "text, `" + strings.ReplaceAll(f.Pattern, "|", `\|`) + "`"
	case f.Type == "" && len(f.AnyOf) == 2:
		return typeOf(f.AnyOf[1], defs)
	case f.Type == "string":
		return "id"
	}
	return f.Type
}

// rangeOf is the range of an integer, which may stand beside a 0 that means none.
func rangeOf(f field) string {
	for _, a := range append([]field{f}, f.AnyOf...) {
		if a.Minimum != nil && a.Maximum != nil {
			return fmt.Sprintf(", %d to %d", *a.Minimum, *a.Maximum)
		}
	}
	return ""
}

// orderedObject is a JSON object whose names come in the order of a Go type.
type orderedObject struct {
	names  []string
	values map[string]any
}

func ordered(k Kind, payload map[string]any) orderedObject {
	return orderedOf(payloadTypes[k], payload)
}

func orderedOf(t reflect.Type, payload map[string]any) orderedObject {
	names, types := fieldNames(t)
	o := orderedObject{values: map[string]any{}}
	for _, name := range names {
		v, ok := payload[name]
		if !ok {
			continue
		}
		switch inner := v.(type) {
		case map[string]any:
			if types[name].Kind() == reflect.Struct {
				v = orderedOf(types[name], inner)
			}
		case []any:
			v = orderedItems(types[name], inner)
		}
		o.names = append(o.names, name)
		o.values[name] = v
	}
	return o
}

func orderedItems(t reflect.Type, items []any) []any {
	all := make([]any, len(items))
	for i, item := range items {
		all[i] = item
		if inner, ok := item.(map[string]any); ok {
			all[i] = orderedOf(t.Elem(), inner)
		}
	}
	return all
}

// MarshalJSON implements json.Marshaler.
func (o orderedObject) MarshalJSON() ([]byte, error) {
	b := bytes.NewBufferString("{")
	for i, name := range o.names {
		v, err := json.Marshal(o.values[name])
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(b, "%q:%s", name, v)
	}
	b.WriteString("}")
	return b.Bytes(), nil
}
