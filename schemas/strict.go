package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"
)

// shape is what encoding/json does not hold a payload to: exact field names,
// none twice, none missing. A nil shape is a plain value.
type shape struct {
	fields   map[string]*shape // of an object with fields of its own
	required []string          // those without omitempty or omitzero
	item     *shape            // of a list
	list     bool
	free     bool // an object whose names are the device's own
}

// shapes are worked out once from the payload types and never written again.
var shapes = map[Kind]*shape{
	KindHello:    shapeOf(reflect.TypeFor[Hello]()),
	KindPresence: shapeOf(reflect.TypeFor[Presence]()),
	KindOffer:    shapeOf(reflect.TypeFor[Offer]()),
	KindFetch:    shapeOf(reflect.TypeFor[Fetch]()),
	KindStatus:   shapeOf(reflect.TypeFor[Status]()),
	KindAck:      shapeOf(reflect.TypeFor[Ack]()),
	KindProfile:  shapeOf(reflect.TypeFor[Profile]()),
	KindClaim:    shapeOf(reflect.TypeFor[Claim]()),
	KindClaimed:  shapeOf(reflect.TypeFor[Claimed]()),
	KindRotate:   shapeOf(reflect.TypeFor[Rotate]()),
	KindRotated:  shapeOf(reflect.TypeFor[Rotated]()),
}

func shapeOf(t reflect.Type) *shape {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return nil
	case t.Kind() == reflect.Slice:
		return &shape{list: true, item: shapeOf(t.Elem())}
	case t.Kind() == reflect.Map:
		return &shape{free: true}
	case t.Kind() != reflect.Struct:
		return nil
	}
	s := &shape{fields: map[string]*shape{}}
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		s.fields[name] = shapeOf(t.Field(i).Type)
		if options == "" {
			s.required = append(s.required, name)
		}
	}
	return s
}

// checkShape walks the tokens of b and refuses what encoding/json lets pass:
// field names that are doubled, missing or in other letters (it matches names
// without regard to case), null, and data after the value.
func checkShape(b []byte, s *shape) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := checkValue(d, s, "the payload"); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badPayload("data after the JSON value")
	}
	return nil
}

func checkValue(d *json.Decoder, s *shape, name string) error {
	tok, err := d.Token()
	if err != nil {
		return badPayload("not JSON: %v", err)
	}
	switch tok {
	case nil:
		return badPayload("%s is null, which is not a value of the contract", name)
	case json.Delim('{'):
		if s == nil || s.list {
			return badPayload("%s is an object", name)
		}
		return checkObject(d, s, name)
	case json.Delim('['):
		if s == nil || !s.list {
			return badPayload("%s is a list", name)
		}
		for d.More() {
			if err := checkValue(d, s.item, "an entry of "+name); err != nil {
				return err
			}
		}
		if _, err := d.Token(); err != nil {
			return badPayload("not JSON: %v", err)
		}
	}
	return nil
}

func checkObject(d *json.Decoder, s *shape, in string) error {
	var seen []string
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return badPayload("not JSON: %v", err)
		}
		name, _ := tok.(string)
		if slices.Contains(seen, name) {
			return badPayload("field %q stands twice in %s", name, in)
		}
		seen = append(seen, name)
		if s.free && len(seen) > MaxHostVersions { // before a long list costs more than it should
			return badPayload("%s has more than %d entries", in, MaxHostVersions)
		}
		field, known := s.fields[name]
		if !known && !s.free {
			return badPayload("unknown field %q in %s", name, in)
		}
		if err := checkValue(d, field, name); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return badPayload("not JSON: %v", err)
	}
	for _, name := range s.required {
		if !slices.Contains(seen, name) {
			return badPayload("field %q is missing in %s", name, in)
		}
	}
	return nil
}
