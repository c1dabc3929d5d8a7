package orchestrator_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/orchestrator"
)

// jsonFields are the names of a struct's fields in the order in which
// encoding/json writes them.
func jsonFields(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		if f.Anonymous {
			names = append(names, jsonFields(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// fill gives every field of a struct a random value, or none.
func fill(t *rapid.T, v reflect.Value) {
	text := rapid.OneOf(rapid.StringMatching(`[a-z0-9._-]{0,12}`), rapid.String(), rapid.Just(""),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 6), func(b []byte) string { return string(b) }), rapid.StringMatching(`[<>&"\\/\x00-\x1f\x7f\x{2028}]{0,4}`))
	switch v.Kind() {
	case reflect.String:
		v.SetString(text.Draw(t, "text"))
	case reflect.Int:
		v.SetInt(rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(-5, 5000)).Draw(t, "int"))
	case reflect.Uint64:
		v.SetUint(rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64()).Draw(t, "uint"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Slice:
		v.SetZero()
		for range rapid.IntRange(0, 2).Draw(t, "length") {
			e := reflect.New(v.Type().Elem()).Elem()
			fill(t, e)
			v.Set(reflect.Append(v, e))
		}
	case reflect.Map:
		if rapid.Bool().Draw(t, "nil") {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			key, n := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, key)
			fill(t, n)
			v.SetMapIndex(key, n)
		}
	case reflect.Struct:
		if _, ok := v.Interface().(time.Time); ok {
			at := rapid.OneOf(rapid.Just(time.Time{}), rapid.Map(rapid.Int64Range(-1<<36, 1<<36), func(s int64) time.Time { return time.Unix(s, s%1e9).UTC() }))
			v.Set(reflect.ValueOf(at.Draw(t, "time")))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(t, v.Field(i))
			}
		}
	default:
		t.Fatalf("fill does not know %s; teach it", v.Type())
	}
}

// strictly reads as records are read without a codec of their own.
func strictly(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	return json.Unmarshal(b, new(any)) // nothing may follow
}

// oddKey finds the name of a member that is not plain.
var oddKey = regexp.MustCompile(`"([^"\\]|\\.)*([^\x20-\x7e]|\\.)([^"\\]|\\.)*":`)

// TestFieldTables holds the tables to the structs: no field is missing, all of
// them stand in their order, and every record is written as json.Marshal writes
// it and read as it was.
func TestFieldTables(t *testing.T) {
	for name, table := range orchestrator.FieldTables() {
		t.Run(name, func(t *testing.T) {
			if want := jsonFields(reflect.TypeOf(table.Empty).Elem()); !slices.Equal(table.Names, want) {
				t.Fatalf("the table has the fields\n%v, the struct\n%v", table.Names, want)
			}
			rapid.Check(t, func(t *rapid.T) { checkTable(t, table) })
		})
	}
}

func checkTable(t *rapid.T, table orchestrator.FieldTable) {
	typ := reflect.TypeOf(table.Empty).Elem()
	rec := reflect.New(typ)
	if rapid.Bool().Draw(t, "filled") {
		fill(t, rec.Elem())
	}
	want, wantErr := json.Marshal(rec.Interface())
	b, err := table.Append(rec.Interface())
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("error %v, want %v", err, wantErr)
	}
	if err != nil {
		return
	}
	if !bytes.Equal(b, want) {
		t.Fatalf("written\n%s, want\n%s", b, want)
	}
	again := reflect.New(typ).Interface()
	if err := json.Unmarshal(want, again); err != nil {
		t.Fatal(err)
	}
	// Null, and keys that have to be escaped, are rare enough to be left to encoding/json.
	if got, ok := table.Parse(b); ok && !reflect.DeepEqual(got, again) || !ok && !bytes.Contains(b, []byte("null")) && !oddKey.Match(b) {
		t.Fatalf("%s is read (%v) as\n%+v, want\n%+v", b, ok, got, again)
	}
	// Damaged anywhere, it is left to encoding/json or read as that reads it.
	i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
	sameIfRead(t, table, append(slices.Clone(b[:i]), b[i+1:]...))
	b[i] = rapid.SampledFrom([]byte(`{}[]":,0-x\`)).Draw(t, "byte")
	sameIfRead(t, table, b)
}

func sameIfRead(t interface{ Fatalf(string, ...any) }, table orchestrator.FieldTable, b []byte) {
	got, ok := table.Parse(b)
	if !ok {
		return
	}
	want := reflect.New(reflect.TypeOf(table.Empty).Elem()).Interface()
	if err := strictly(b, want); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%s is read as\n%+v, want\n%+v (%v)", b, got, want, err)
	}
}

// FuzzExecutionRecord compares the codec of executions with encoding/json.
func FuzzExecutionRecord(f *testing.F) {
	table := orchestrator.FieldTables()["execution"]
	f.Add([]byte(`{"id":"ex-1","job":"j","device":"d","image":"i","image_type":"app","version":"2","attempt":2,"history":[{"attempt":1,"state":"failed","cause":"serial","bytes_done":7,` +
		`"ended_at":"2026-03-01T12:00:00Z"}],"state":"installing","cause":"","bytes_done":4096,"bytes_total":65536,"host_version":"","seq":9,"created_at":"2026-03-01T12:00:00.5Z","order":1,"sha256":"00","rev":12}`))
	f.Add([]byte(`{"id":"\u003c\"é","code":-1,"downloaded":true}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		sameIfRead(t, table, b)
		rec, ok := table.Parse(b)
		if !ok {
			return
		}
		want, wantErr := json.Marshal(rec)
		got, err := table.Append(rec)
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("written\n%s (%v), want\n%s (%v)", got, err, want, wantErr)
		}
	})
}

// BenchmarkExecutionRecord reads and writes an execution by its table and by
// encoding/json.
func BenchmarkExecutionRecord(b *testing.B) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	rec := &orchestrator.ExecutionRecord{Rev: 123456, Tracked: orchestrator.Tracked{Order: 1<<32 | 77, SHA256: strings.Repeat("ab", 32), Execution: orchestrator.Execution{
		ID: "ex-6tbnlxq2afyd3wmc", Job: "spring-2026", Device: "dev-000077", Image: "img-6tbnlxq2afyd3wmc", ImageType: "application", Version: "2.1.0", Attempt: 1,
		State: "installing", BytesDone: 4096, BytesTotal: 1 << 16, Seq: 9, CreatedAt: at, OfferedAt: at, UpdatedAt: at,
	}}}
	table := orchestrator.FieldTables()["execution"]
	written := must[[]byte](b)(json.Marshal(rec))
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must[[]byte](b)(table.Append(rec))
		}
	})
	b.Run("marshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			must[[]byte](b)(json.Marshal(rec))
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := table.Parse(written); !ok {
				b.Fatal("not read")
			}
		}
	})
	b.Run("unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := json.Unmarshal(written, new(orchestrator.ExecutionRecord)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
