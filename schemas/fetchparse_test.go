package schemas

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// generalFetch decodes a fetch the general way.
func generalFetch(b []byte) (Fetch, error) {
	var f Fetch
	if err := checkShape(b, shapes[KindFetch]); err != nil {
		return f, err
	}
	err := json.Unmarshal(b, &f)
	return f, err
}

// TestParseFetch: what encoding/json writes of a fetch is parsed, to the same fetch.
func TestParseFetch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawFetch(t).(*Fetch)
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Fetch
		if !parseFetch(b, &got) || !reflect.DeepEqual(got, *want) {
			t.Fatalf("%s: %+v", b, got)
		}
	})
}

// TestParseFetchLeavesTheRest: what is unusual or wrong is left to the general way.
func TestParseFetchLeavesTheRest(t *testing.T) {
	for _, s := range []string{
		``, `{}`, `{"v":1,"image":"i","tag":1,"chunk":64}`,
		`{"v":1,"v":1,"image":"i","tag":1,"chunk":64,"ranges":[{"offset":0,"length":1}]}`,
		`{"v":1,"image":"\u0069","tag":1,"chunk":64,"ranges":[{"offset":0,"length":1}]}`,
		`{"v":1,"image":"ü","tag":1,"chunk":64,"ranges":[{"offset":0,"length":1}]}`,
		`{"v":1,"image":"i","tag":01,"chunk":64,"ranges":[{"offset":0,"length":1}]}`,
		`{"v":1,"image":"i","tag":1.0,"chunk":64,"ranges":[{"offset":0,"length":1}]}`,
		`{"v":1,"image":"i","tag":-1,"chunk":64,"ranges":[{"offset":0,"length":1}]}`,
		`{"v":1,"image":"i","tag":65536,"chunk":64,"ranges":[{"offset":0,"length":1}]}`,
		`{"v":1,"image":"i","tag":1,"chunk":64,"ranges":[]}`,
		`{"v":1,"image":"i","tag":1,"chunk":64,"ranges":[{"offset":0}]}`,
		`{"v":1,"image":"i","tag":1,"chunk":64,"ranges":[{"offset":0,"length":1,"length":1}]}`,
		`{"v":1,"image":"i","tag":1,"chunk":64,"ranges":[{"offset":0,"length":1},]}`,
		`{"v":1,"image":"i","tag":1,"chunk":64,"ranges":[{"offset":0,"length":1}],}`,
		`{"v":1,"image":"i","tag":1,"chunk":64,"ranges":[{"offset":0,"length":1}]} x`,
		`{"v":1,"image":"i","tag":1,"chunk":64,"ranges":[{"offset":0,"length":1}],"Follow":true}`,
		`{"v":1,"image":"i","tag":1,"chunk":64,"ranges":[{"offset":0,"length":99999999999999999999}]}`,
	} {
		if f := (Fetch{}); parseFetch([]byte(s), &f) || !reflect.DeepEqual(f, Fetch{}) {
			t.Errorf("%s: %+v", s, f)
		}
	}
}

// FuzzParseFetch: what is parsed is JSON, and to the general way the same.
func FuzzParseFetch(f *testing.F) {
	f.Add([]byte(`{"v":1,"image":"i","tag":1,"chunk":64,"ranges":[{"offset":0,"length":1},{"length":5,"offset":7}],"awaited":3,"follow":true}`))
	f.Add([]byte(" {\t\"ranges\" : [ {\"length\":0, \"offset\" : 1 } ]\n, \"follow\":false, \"tag\":65535,\"chunk\":0,\"image\":\"~\",\"v\":0} "))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got Fetch
		if !parseFetch(b, &got) {
			return
		}
		if want, err := generalFetch(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, the general way %+v, %v", b, got, want, err)
		}
	})
}

// TestFetchIsCheap: a fetch costs its image id and its ranges.
func TestFetchIsCheap(t *testing.T) {
	b := []byte(`{"v":1,"image":"img-kzq5o3vthb2mrw7a","tag":1,"chunk":4096,"ranges":[{"offset":0,"length":32768},{"offset":65536,"length":4096}]}`)
	if n := testing.AllocsPerRun(100, func() {
		if f, err := DecodeFetch(b); err != nil || len(f.Ranges) != 2 {
			t.Fatal(err)
		}
	}); n > 2 {
		t.Errorf("%v allocations, at most 2 are expected", n)
	}
}

func BenchmarkDecodeFetch(b *testing.B) {
	payload := []byte(`{"v":1,"image":"img-kzq5o3vthb2mrw7a","tag":1,"chunk":4096,"ranges":[{"offset":0,"length":32768},{"offset":65536,"length":4096}]}`)
	for name, decode := range map[string]func(*Fetch) error{
		"parsed":  func(f *Fetch) (err error) { *f, err = DecodeFetch(payload); return err },
		"general": func(f *Fetch) (err error) { *f, err = generalFetch(payload); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var f Fetch
				if err := decode(&f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
