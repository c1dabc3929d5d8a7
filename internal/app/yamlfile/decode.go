package yamlfile

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// Place is where something stands in a file; lines and columns begin at 1.
type Place struct{ Line, Column int }

// Decoder reads a file into values of Go. A struct is written as its members, by
// the names of its json tags. What the tags minimum, maximum, enum, maxLength and
// maxItems allow is held here as it is by the API, so that a mistake is told with
// its line. The kinds that it knows are those of such types: pointers, structs,
// lists, maps by name, text, numbers, booleans, time.Time, and numbers that are
// written as text because they implement json.Unmarshaler, which are durations.
type Decoder struct {
	Reader
	// Names are the values that a type of text can have, if there are only some.
	Names map[reflect.Type][]string
	// Places is where each value begins, by its JSON pointer without the first slash.
	Places map[string]Place
}

// spot is a value that is read: its node, the token of its name (nil for an entry
// of a list), how messages name it, its pointer, and the tags of its field.
type spot struct {
	node           ast.Node
	key            *token.Token
	field, pointer string
	tag            reflect.StructTag
}

// Decode reads the whole file into to, a pointer to a struct. hint says what to do
// if the file does not begin with a member of it. What is wrong is noted; to is to
// be used only if Err says that nothing is.
func (d *Decoder) Decode(root ast.Node, to any, hint string) {
	d.Places = map[string]Place{}
	pairs, ok := d.Mapping(root, "", hint)
	if !ok {
		return
	}
	d.members(pairs, reflect.ValueOf(to).Elem(), spot{})
}

// members reads the pairs of a mapping into a struct.
func (d *Decoder) members(pairs []*ast.MappingValueNode, to reflect.Value, s spot) {
	fields := map[string]int{}
	var names []string
	for i := range to.NumField() {
		name, _, _ := strings.Cut(to.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = i
		names = append(names, name)
	}
	d.Members(pairs, dotted(s.field), names, func(name string, pair *ast.MappingValueNode) {
		i := fields[name]
		d.value(to.Field(i), spot{pair.Value, pair.Key.GetToken(), dotted(s.field) + name, below(s.pointer, name), to.Type().Field(i).Tag})
	})
}

func dotted(field string) string {
	if field == "" {
		return ""
	}
	return field + "."
}

func below(pointer, name string) string {
	if pointer == "" {
		return name
	}
	return pointer + "/" + name
}

// value reads a node into to.
func (d *Decoder) value(to reflect.Value, s spot) {
	at := Start(s.node)
	d.Places[s.pointer] = Place{at.Position.Line, at.Position.Column}
	switch t := to.Type(); {
	case t.Kind() == reflect.Pointer:
		v := reflect.New(t.Elem())
		d.value(v.Elem(), s)
		to.Set(v)
	case t == reflect.TypeFor[time.Time]():
		d.instant(to, s)
	case t.Kind() == reflect.Struct:
		if pairs, ok := d.Mapping(s.node, s.field, "write its settings under it, each as name: value"); ok {
			d.members(pairs, to, s)
		}
	case t.Kind() == reflect.Slice:
		d.list(to, s)
	case t.Kind() == reflect.Map:
		d.byName(to, s)
	case t.Kind() == reflect.Int64 && reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()):
		d.duration(to, s)
	default:
		d.plainValue(to, s)
	}
}

// plainValue reads text, a number or a boolean.
func (d *Decoder) plainValue(to reflect.Value, s spot) {
	want, ok := map[reflect.Kind]Want{reflect.String: Text, reflect.Bool: Switch, reflect.Int: Number, reflect.Float64: Real}[to.Kind()]
	if !ok {
		panic(fmt.Sprintf("yamlfile: %s is a %s, which cannot be read", s.field, to.Type())) // a mistake in the program
	}
	text, ok := d.Scalar(s.node, s.key, s.field, want)
	if !ok {
		return
	}
	switch to.Kind() {
	case reflect.String:
		d.text(to, text, s)
	case reflect.Bool:
		if text != "on" && text != "off" {
			d.Wrong(Start(s.node), s.field, "is %q; write true or false", text)
			return
		}
		to.SetBool(text == "on")
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil || !within(float64(n), s.tag) {
			d.Wrong(Start(s.node), s.field, "is %s; write a whole number%s", text, limits(s.tag))
			return
		}
		to.SetInt(int64(n))
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || !within(f, s.tag) {
			d.Wrong(Start(s.node), s.field, "is %s; write a number%s", text, limits(s.tag))
			return
		}
		to.SetFloat(f)
	}
}

// text sets a text that may have to be one of some names or not too long.
func (d *Decoder) text(to reflect.Value, text string, s spot) {
	names := d.Names[to.Type()]
	if enum := s.tag.Get("enum"); enum != "" {
		names = strings.Split(enum, ",")
	}
	if len(names) > 0 && !slices.Contains(names, text) {
		d.Wrong(Start(s.node), s.field, "is %s; %s", Printable(text), Suggestion(text, names))
		return
	}
	if most, err := strconv.Atoi(s.tag.Get("maxLength")); err == nil && len([]rune(text)) > most {
		d.Wrong(Start(s.node), s.field, "has %d characters; at most %d are allowed", len([]rune(text)), most)
		return
	}
	to.SetString(text)
}

// within says whether a number is within the limits of its field's tags.
func within(f float64, tag reflect.StructTag) bool {
	least, err := strconv.ParseFloat(tag.Get("minimum"), 64)
	if err == nil && f < least {
		return false
	}
	most, err := strconv.ParseFloat(tag.Get("maximum"), 64)
	return err != nil || f <= most
}

// limits are those in words.
func limits(tag reflect.StructTag) string {
	least, most := tag.Get("minimum"), tag.Get("maximum")
	switch {
	case least != "" && most != "":
		return " from " + least + " to " + most
	case least != "":
		return ", " + least + " or more"
	}
	return ""
}

// list reads a list. One value alone is no list, so that nobody has to guess
// whether a comma in it divides.
func (d *Decoder) list(to reflect.Value, s spot) {
	list, ok := s.node.(*ast.SequenceNode)
	if !ok {
		d.Wrong(Start(s.node), s.field, "is %s; write a list, where each entry begins with -", KindOf(s.node))
		return
	}
	if most, err := strconv.Atoi(s.tag.Get("maxItems")); err == nil && len(list.Values) > most {
		d.Wrong(Start(list.Values[most]), s.field, "has %d entries; at most %d are allowed", len(list.Values), most)
		return
	}
	to.Set(reflect.MakeSlice(to.Type(), len(list.Values), len(list.Values)))
	for i, entry := range list.Values {
		field := fmt.Sprintf("%s[%d]", s.field, i)
		if entry.Type() == ast.NullType {
			d.Wrong(entry.GetToken(), field, "has no value; give it one, or take the line out")
			continue
		}
		d.value(to.Index(i), spot{entry, nil, field, below(s.pointer, strconv.Itoa(i)), ""})
	}
}

// byName reads a mapping whose names are values of a type.
func (d *Decoder) byName(to reflect.Value, s spot) {
	pairs, ok := d.Mapping(s.node, s.field, "write its settings under it, each as name: value")
	if !ok {
		return
	}
	t := to.Type()
	to.Set(reflect.MakeMap(t))
	d.Members(pairs, dotted(s.field), d.Names[t.Key()], func(name string, pair *ast.MappingValueNode) {
		v := reflect.New(t.Elem()).Elem()
		d.value(v, spot{pair.Value, pair.Key.GetToken(), dotted(s.field) + name, below(s.pointer, name), ""})
		to.SetMapIndex(reflect.ValueOf(name).Convert(t.Key()), v)
	})
}

// duration reads a number that is written as text.
func (d *Decoder) duration(to reflect.Value, s spot) {
	text, ok := d.Scalar(s.node, s.key, s.field, Time)
	if !ok {
		return
	}
	quoted, err := json.Marshal(text)
	if err == nil {
		err = json.Unmarshal(quoted, to.Addr().Interface())
	}
	if err != nil {
		d.Wrong(Start(s.node), s.field, "is %q; %s", text, TimeForm)
	}
}

// instant reads a point in time.
func (d *Decoder) instant(to reflect.Value, s spot) {
	text, ok := d.Scalar(s.node, s.key, s.field, Text)
	if !ok {
		return
	}
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		d.Wrong(Start(s.node), s.field, "is %q; %s", text, InstantForm)
		return
	}
	to.Set(reflect.ValueOf(v))
}

// InstantForm is what to do about a point in time that is written otherwise.
const InstantForm = "write date, time and offset, such as 2027-03-01T22:00:00+01:00"
