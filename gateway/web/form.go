package web

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"davit/orchestrator"
)

// form is what was typed, and what is wrong with it.
type form struct {
	Values url.Values
	// Errors by field, in the orchestrator's notation.
	Errors map[string]string
	// Notice is what is wrong with the form as a whole.
	Notice string
	// Stale says that somebody else has edited the record meanwhile: the form shows
	// what was typed and, when it is sent again, overwrites.
	Stale bool
	// Asked says that the form only asks for something, as filters do.
	Asked  bool
	status int
}

const (
	// maxForm is the longest form: a list of many devices, one a line.
	maxForm = 8 << 20
	// maxStrangersForm is the longest form of somebody who has not signed in: a form is
	// held in memory, and anybody can send one.
	maxStrangersForm = 16 << 10
)

// form reads what was sent; it also takes values from the query.
func (v *visit) form() (*form, error) {
	limit := int64(maxForm)
	if !v.signed {
		limit = maxStrangersForm
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, limit)
	if err := v.r.ParseForm(); err != nil {
		return nil, fmt.Errorf("%w: the form could not be read: %w", orchestrator.ErrInvalid, err)
	}
	return &form{Values: v.r.Form, Errors: map[string]string{}, Asked: v.r.Method == http.MethodGet}, nil
}

// newForm is a form that shows these values: name, value, name, value.
func newForm(pairs ...string) *form {
	f := &form{Values: url.Values{}, Errors: map[string]string{}}
	for i := 0; i+1 < len(pairs); i += 2 {
		f.Values.Add(pairs[i], pairs[i+1])
	}
	return f
}

// Get returns a value without space around it.
func (f *form) Get(name string) string {
	if f == nil {
		return ""
	}
	return strings.TrimSpace(f.Values.Get(name))
}

// Raw returns a value as it was typed, for passwords.
func (f *form) Raw(name string) string { return f.Values.Get(name) }

// Has says whether a box was ticked, or one of a list of that name with the value.
func (f *form) Has(name string, value ...string) bool {
	if f == nil {
		return false
	}
	if len(value) == 0 {
		return f.Values.Get(name) != ""
	}
	return slices.Contains(f.Values[name], value[0])
}

// All returns the values of a name that are not empty.
func (f *form) All(name string) []string {
	var out []string
	for _, s := range f.Values[name] {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// Words returns the words of a value, divided by commas, space or line breaks.
func (f *form) Words(name string) []string { return words(f.Values.Get(name)) }

func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' })
}

// Ptr returns a value for a patch.
func (f *form) Ptr(name string) *string { return new(f.Get(name)) }

// Revision returns the revision that the form was made from, nil if the form does
// not say.
func (f *form) Revision() *uint64 {
	n, err := strconv.ParseUint(f.Get("revision"), 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

// Precondition is the revision for a patch.
func (f *form) Precondition() orchestrator.Precondition {
	return orchestrator.Precondition{IfRevision: f.Revision()}
}

// Reject notes what is wrong with a field.
func (f *form) Reject(field, text string) {
	f.status = http.StatusUnprocessableEntity
	f.Errors[field] = asSentence(text)
}

// Take notes an error of the service in the form and says whether it could:
// errors that are the service's own fault are not the form's.
func (f *form) Take(err error) bool {
	if err == nil || !explainable(err) {
		return false
	}
	f.status = statusOf(err)
	if f.status == http.StatusNotFound {
		f.status = http.StatusUnprocessableEntity // what the form names, not the page
	}
	var field *orchestrator.FieldError
	switch {
	case errors.As(err, &field):
		text := strings.TrimPrefix(field.Error(), orchestrator.ErrInvalid.Error()+": ")
		f.Errors[field.Field] = asSentence(strings.TrimPrefix(text, field.Field+": "))
	case errors.Is(err, orchestrator.ErrStale):
		f.Stale = true
		f.Notice = "Somebody else has changed this since you opened it. What you typed is kept below; compare it with the page as it is now, then save again to overwrite."
	default:
		f.Notice = sentence(err)
	}
	return true
}

// Refresh makes the form that was refused as stale overwrite the revision that is
// there now.
func (f *form) Refresh(revision uint64) { f.Values.Set("revision", strconv.FormatUint(revision, 10)) }

// Own returns what is wrong with a field itself, not with a part of it.
func (f *form) Own(name string) string { return f.Errors[name] }

// Bad says whether anything is wrong.
func (f *form) Bad() bool { return f != nil && (f.Notice != "" || len(f.Errors) > 0) }

// Fields are the names of the fields with errors, in order.
func (f *form) Fields() []string { return slices.Sorted(maps.Keys(f.Errors)) }

// fieldName is what people call a field, as in "Admin token", or, for a part of a
// list, "Image types 2, version property".
func fieldName(field string) string {
	switch field {
	case "again":
		return "Password again"
	case "csv":
		return "The list"
	case "rollout_text":
		return "The plan"
	case "":
		return "The form"
	}
	var b strings.Builder
	for i, part := range strings.Split(strings.TrimPrefix(field, planRoot+"/"), "/") {
		n, err := strconv.Atoi(part)
		switch {
		case err == nil && i > 0:
			fmt.Fprintf(&b, " %d", n+1)
			continue
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(strings.ReplaceAll(part, "_", " "))
	}
	name := b.String()
	return strings.ToUpper(name[:1]) + name[1:]
}

// Error returns what is wrong with a field: of the field itself, or of a part of
// it, as in "device_types/0".
func (f *form) Error(name string) string {
	if f == nil {
		return ""
	}
	if e := f.Errors[name]; e != "" {
		return e
	}
	for _, field := range f.Fields() {
		if strings.HasPrefix(field, name+"/") {
			return f.Errors[field]
		}
	}
	return ""
}

// field is what the templates of inputs are given.
type field struct {
	Form     *form
	Name     string
	ID       string
	Label    string
	Help     string
	Type     string
	Value    string
	Checked  bool
	Required bool
	ReadOnly bool
	Rows     int
	Options  []option
	// Attributes that are given as they are.
	Placeholder, Autocomplete, List, Pattern, Min, Max, Inputmode string
	Autofocus                                                     bool
}

// option is one choice of a select.
type option struct{ Value, Text string }

// Describedby are the ids of what describes the input.
func (f field) Describedby() string {
	var ids []string
	if f.Help != "" {
		ids = append(ids, f.ID+"-help")
	}
	if f.Error() != "" {
		ids = append(ids, f.ID+"-error")
	}
	return strings.Join(ids, " ")
}

// Error is what is wrong with the field.
func (f field) Error() string { return f.Form.Error(f.Name) }

// Selected says whether an option is chosen.
func (f field) Selected(o option) bool { return f.Value == o.Value }

// newField is the template function "field": the form, the name, and pairs of
// property and value.
func newField(f *form, name string, pairs ...any) (field, error) {
	in := field{Form: f, Name: name, ID: "f-" + strings.ReplaceAll(name, "/", "-"), Label: name, Type: "text", Value: f.Get(name), Rows: 3}
	in.Checked = f.Has(name)
	if len(pairs)%2 != 0 {
		return in, fmt.Errorf("field %s: properties come in pairs", name)
	}
	for i := 0; i < len(pairs); i += 2 {
		key, _ := pairs[i].(string)
		if err := in.set(key, pairs[i+1]); err != nil {
			return in, err
		}
	}
	return in, nil
}

func (f *field) set(key string, value any) error {
	texts := map[string]*string{
		"id": &f.ID, "label": &f.Label, "help": &f.Help, "type": &f.Type, "value": &f.Value, "placeholder": &f.Placeholder,
		"autocomplete": &f.Autocomplete, "list": &f.List, "pattern": &f.Pattern, "min": &f.Min, "max": &f.Max, "inputmode": &f.Inputmode,
	}
	flags := map[string]*bool{"required": &f.Required, "readonly": &f.ReadOnly, "checked": &f.Checked, "autofocus": &f.Autofocus}
	ok := false
	switch key {
	case "rows":
		f.Rows, ok = value.(int)
	case "options":
		f.Options, ok = value.([]option)
	default:
		if p, known := texts[key]; known {
			*p, ok = value.(string)
		} else if p, known := flags[key]; known {
			*p, ok = value.(bool)
		}
	}
	if !ok {
		return fmt.Errorf("field %s: no property %q of type %T", f.Name, key, value)
	}
	return nil
}
