package web

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// The fields of a plan are called as the service calls them in its errors
// (rollout/waves/0/percent), so an error stands at the field that it is about, and
// the form is read and filled by one walk over the type.

// planRoot is the name that all fields of a plan begin with.
const planRoot = "rollout"

// Lists of a plan that have rows in the form.
const (
	planWaves   = planRoot + "/waves"
	planStop    = planRoot + "/stop"
	planGroups  = planRoot + "/pace/groups"
	planWindows = planRoot + "/schedule/windows"
	planCauses  = planRoot + "/retry/causes"
)

// maxPlanRows is how many rows of a list a form is read for: more than the service
// takes of any.
const maxPlanRows = 64

// The ways to say how a job reaches its devices.
const (
	modeOnce  = "once"
	modeWaves = "waves"
	modeJSON  = "json"
)

// planMode is which of them a form uses.
func (f *form) planMode() string {
	if m := f.Get("rollout_mode"); m == modeWaves || m == modeJSON {
		return m
	}
	return modeOnce
}

// plan reads how the job reaches its devices, nil for all at once. What cannot be
// read is noted in the form.
func (f *form) plan() *orchestrator.Rollout {
	switch f.planMode() {
	case modeWaves:
		f.onlyChosen()
		var r orchestrator.Rollout
		f.read(reflect.ValueOf(&r).Elem(), planRoot)
		if r.Retry != nil && r.Retry.Attempts == 0 {
			r.Retry.Attempts = 1 // an empty field: only what the rows say is tried again
		}
		return &r
	case modeJSON:
		return f.planText()
	}
	return nil
}

// planText reads a plan that was pasted.
func (f *form) planText() *orchestrator.Rollout {
	var r orchestrator.Rollout
	d := json.NewDecoder(strings.NewReader(f.Get("rollout_text")))
	d.DisallowUnknownFields()
	err := d.Decode(&r)
	if err == nil && d.More() {
		err = errors.New("something follows it")
	}
	switch {
	case errors.Is(err, io.EOF):
		f.Reject("rollout_text", "paste a plan, or choose another way")
	case err != nil:
		f.Reject("rollout_text", "this is not a plan in JSON: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	return &r
}

// waveKinds are the ways to say which devices a wave takes, under the names of the
// fields that say it.
func waveKinds() []option {
	return []option{{"percent", "a percentage"}, {"count", "a number of devices"}, {"group", "a group"}, {"devices", "named devices"}}
}

// onlyChosen empties the fields that are not shown because something else was chosen:
// the other ways to say which devices a wave takes, and what belongs to other actions.
func (f *form) onlyChosen() {
	for i := range f.rows(planWaves) {
		at := rowName(planWaves, i)
		for _, kind := range waveKinds() {
			if chosen := f.Get(at + "/kind"); chosen != "" && chosen != kind.Value {
				f.Values.Del(at + "/" + kind.Value)
			}
		}
	}
	for field, action := range map[string]orchestrator.ActionKind{"/defer_limit": orchestrator.ActionSoft, "/confirm_by": orchestrator.ActionConfirm} {
		if f.Get(planRoot+"/action") != string(action) {
			f.Values.Del(planRoot + field)
		}
	}
}

func rowName(list string, i int) string { return list + "/" + strconv.Itoa(i) }

// rowIndex is the number of the row of a list that a field belongs to, -1 if it does not.
func rowIndex(list, field string) int {
	rest, ok := strings.CutPrefix(field, list+"/")
	if !ok {
		return -1
	}
	number, _, _ := strings.Cut(rest, "/")
	i, err := strconv.Atoi(number)
	if err != nil || i < 0 || i >= maxPlanRows {
		return -1
	}
	return i
}

// rows is how many rows of a list the form has.
func (f *form) rows(list string) int {
	n := 0
	for field := range f.Values {
		n = max(n, rowIndex(list, field)+1)
	}
	return n
}

// editRows adds the row that its button asks for, and takes away another. It
// returns the list that has become longer or shorter, and whether it is longer.
func (f *form) editRows() (list string, longer bool) {
	for _, list := range []string{planWaves, planStop, planGroups, planWindows, planCauses} {
		if f.Get("add") == list {
			f.Values.Set(rowName(list, f.rows(list))+"/new", "")
			return list, true
		}
		if i := rowIndex(list, f.Get("remove")); i >= 0 {
			f.removeRow(list, i)
			return list, false
		}
	}
	return "", false
}

func (f *form) removeRow(list string, gone int) {
	values := url.Values{}
	for field, v := range f.Values {
		switch i := rowIndex(list, field); {
		case i == gone:
		case i > gone:
			values[rowName(list, i-1)+strings.TrimPrefix(field, rowName(list, i))] = v
		default:
			values[field] = v
		}
	}
	f.Values = values
}

// takePlan is Take for errors that may be about a plan: what the service names by
// its cause is a row here, and what is wrong with a pasted plan stands at the text.
func (f *form) takePlan(err error) bool {
	if !f.Take(err) {
		return false
	}
	for field, text := range maps.Clone(f.Errors) {
		if f.planMode() == modeJSON && strings.HasPrefix(field, planRoot+"/") {
			delete(f.Errors, field)
			f.Errors["rollout_text"] = fieldName(field) + ": " + text
			continue
		}
		rest, ok := strings.CutPrefix(field, planCauses+"/")
		if !ok {
			continue
		}
		cause, rest, _ := strings.Cut(rest, "/")
		for i := range f.rows(planCauses) {
			if at := rowName(planCauses, i); f.Get(at+"/cause") == cause {
				delete(f.Errors, field)
				f.Errors[strings.TrimSuffix(at+"/"+rest, "/")] = text
			}
		}
	}
	return true
}

// read fills a value of a plan's type from the fields under a name. A pointer stays
// nil if nothing under it was typed.
func (f *form) read(v reflect.Value, name string) {
	switch p := v.Addr().Interface().(type) {
	case *orchestrator.Duration:
		*p = f.limit(name)
		return
	case *time.Time:
		*p = f.moment(name)
		return
	case *map[schemas.Cause]orchestrator.CauseRetry:
		*p = f.causeRetries(name)
		return
	}
	switch v.Kind() { //nolint:exhaustive // the kinds that plans are made of
	case reflect.Struct:
		for i := range v.NumField() {
			f.read(v.Field(i), name+"/"+jsonName(v.Type().Field(i)))
		}
	case reflect.Pointer:
		to := reflect.New(v.Type().Elem())
		if f.read(to.Elem(), name); !to.Elem().IsZero() {
			v.Set(to)
		}
	case reflect.Slice:
		f.readList(v, name)
	case reflect.String:
		v.SetString(f.Get(name))
	case reflect.Bool:
		v.SetBool(f.Has(name))
	case reflect.Int:
		v.SetInt(int64(f.whole(name)))
	case reflect.Float64:
		v.SetFloat(f.decimal(name))
	}
}

// readList reads rows, or the words of a field that names several.
func (f *form) readList(v reflect.Value, name string) {
	if v.Type().Elem().Kind() == reflect.String {
		for _, typed := range f.Values[name] {
			for _, word := range words(typed) {
				v.Set(reflect.Append(v, reflect.ValueOf(word).Convert(v.Type().Elem())))
			}
		}
		return
	}
	for i := range f.rows(name) {
		row := reflect.New(v.Type().Elem()).Elem()
		f.read(row, rowName(name, i))
		v.Set(reflect.Append(v, row))
	}
}

func (f *form) causeRetries(name string) map[schemas.Cause]orchestrator.CauseRetry {
	var out map[schemas.Cause]orchestrator.CauseRetry
	for i := range f.rows(name) {
		var retry orchestrator.CauseRetry
		f.read(reflect.ValueOf(&retry).Elem(), rowName(name, i))
		if out == nil {
			out = map[schemas.Cause]orchestrator.CauseRetry{}
		}
		cause := schemas.Cause(f.Get(rowName(name, i) + "/cause"))
		if _, twice := out[cause]; twice {
			f.Reject(rowName(name, i)+"/cause", "this cause has a row already")
		}
		out[cause] = retry
	}
	return out
}

func jsonName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	return name
}

// whole reads a whole number; none is 0.
func (f *form) whole(name string) int {
	s := f.Get(name)
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		f.Reject(name, fmt.Sprintf("%q is not a whole number", s))
	}
	return n
}

// decimal reads a number, with or without a sign for per cent; none is 0.
func (f *form) decimal(name string) float64 {
	s := strings.TrimSpace(strings.TrimSuffix(f.Get(name), "%"))
	if s == "" {
		return 0
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n != n || n > 1e9 || n < -1e9 {
		f.Reject(name, fmt.Sprintf("%q is not a number", s))
		return 0
	}
	return n
}

// momentLayout is how browsers send a date and time.
const momentLayout = "2006-01-02T15:04"

// moment reads a date and time in UTC; none is the zero time.
func (f *form) moment(name string) time.Time {
	s := f.Get(name)
	if s == "" {
		return time.Time{}
	}
	for _, layout := range []string{momentLayout, "2006-01-02T15:04:05", "2006-01-02 15:04", time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	f.Reject(name, fmt.Sprintf("%q is not a date and time; write for example 2026-03-31 22:00", s))
	return time.Time{}
}

// fillPlan puts a plan into the form, nil as all at once.
func (f *form) fillPlan(r *orchestrator.Rollout) {
	if r == nil {
		f.Values.Set("rollout_mode", modeOnce)
		return
	}
	f.Values.Set("rollout_mode", modeWaves)
	f.write(reflect.ValueOf(*r), planRoot)
	for i, w := range r.Waves {
		kind := "percent"
		switch {
		case len(w.Devices) > 0:
			kind = "devices"
		case w.Group != "":
			kind = "group"
		case w.Count > 0:
			kind = "count"
		}
		f.Values.Set(rowName(planWaves, i)+"/kind", kind)
		f.Values.Set(rowName(planWaves, i)+"/of", string(cmp.Or(w.Of, orchestrator.OfAll)))
	}
}

// write is the reverse of read.
func (f *form) write(v reflect.Value, name string) {
	if v.IsZero() {
		return
	}
	switch x := v.Interface().(type) {
	case orchestrator.Duration:
		f.Values.Set(name, shortDuration(time.Duration(x)))
		return
	case time.Time:
		f.Values.Set(name, x.UTC().Format(momentLayout))
		return
	case map[schemas.Cause]orchestrator.CauseRetry:
		for i, cause := range slices.Sorted(maps.Keys(x)) {
			f.Values.Set(rowName(name, i)+"/cause", string(cause))
			f.write(reflect.ValueOf(x[cause]), rowName(name, i))
		}
		return
	}
	switch v.Kind() { //nolint:exhaustive // as in read
	case reflect.Struct:
		for i := range v.NumField() {
			f.write(v.Field(i), name+"/"+jsonName(v.Type().Field(i)))
		}
	case reflect.Pointer:
		f.write(v.Elem(), name)
	case reflect.Slice:
		if ids, ok := v.Interface().([]string); ok && strings.HasPrefix(name, planWaves) {
			f.Values.Set(name, strings.Join(ids, ", ")) // typed, where others are ticked
			return
		}
		for i := range v.Len() {
			if v.Type().Elem().Kind() == reflect.String {
				f.Values.Add(name, v.Index(i).String())
				continue
			}
			f.Values.Set(rowName(name, i)+"/new", "") // a row without any value is one as well
			f.write(v.Index(i), rowName(name, i))
		}
	default:
		f.Values.Set(name, fmt.Sprint(v.Interface()))
	}
}

// shortDuration is a length of time as people type it: 1h, not 1h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
