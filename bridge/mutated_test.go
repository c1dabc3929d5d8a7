package bridge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/schemas"
	"davit/trust"
)

// manifestFields are the names of a manifest's fields as they stand in its text, and their values.
func manifestFields(t *testing.T, text []byte) (names []string, values map[string]json.RawMessage) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^  "([a-z0-9_]+)": `).FindAllSubmatch(text, -1) {
		names = append(names, string(m[1]))
	}
	if err := json.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	if got := manifestText(names, values); !bytes.Equal(got, text) {
		t.Fatalf("a manifest that is put together again is another one:\n%s", got)
	}
	return names, values
}

// manifestText is the text with these fields; one without a value is left out.
func manifestText(names []string, values map[string]json.RawMessage) []byte {
	var lines []string
	for _, name := range names {
		if v, ok := values[name]; ok {
			lines = append(lines, fmt.Sprintf("  %q: %s", name, v))
		}
	}
	return []byte("{\n" + strings.Join(lines, ",\n") + "\n}\n")
}

// otherValues are what a field may be changed to, made from what it is.
func otherValues(t *testing.T, raw json.RawMessage) []string {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	all := []string{"null", "{}", "true", `"0"`, "-1"}
	switch v := v.(type) {
	case string:
		all = append(all, otherTexts(v)...)
	case float64:
		n := int64(v)
		for _, n := range []int64{0, n + 1, n - 1, 2 * n, n / 2, -n, 1 << 32, 1<<53 - 1, 1 << 53, 1<<63 - 1} {
			all = append(all, fmt.Sprint(n))
		}
		all = append(all, "18446744073709551615", "1e400", fmt.Sprintf("%d.0", n), "0"+fmt.Sprint(n))
	case []any:
		one := fmt.Sprintf("%q", v[0])
		for _, list := range [][]string{{}, {one, one}, {`"fan"`}, {`"*"`}, {`"../x"`}, {`""`}, {`"fan"`, one}, {one, `"fan"`}} {
			all = append(all, "[\n    "+strings.Join(list, ",\n    ")+"\n  ]")
		}
		all = append(all, "[]", one)
	default:
		t.Fatalf("a %T is no field of a manifest", v)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(s string) bool { return s == string(raw) })
}

// otherTexts are strings that are not s, times if s is one.
func otherTexts(s string) (all []string) {
	flip := func(at int) string { return s[:at] + string('0'+(s[at]-'0'+1)%10) + s[at+1:] }
	texts := []string{"", s[1:], s[:len(s)-1], s + "0", s + s, flip(0), flip(len(s) / 2), flip(len(s) - 1), strings.ToUpper(s), strings.ToLower(s), s + "\n", s + "\x00", "../" + s}
	if n := len(s); n > 100 { // hashes: moved, doubled, left out
		texts = append(texts, s[n/2:]+s[:n/2], s[:44]+s[:n-44], s[:n-44], s+s[:44], strings.TrimRight(s, "="))
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		for _, at := range []time.Time{at.AddDate(100, 0, 0), at.AddDate(-20, 0, 0), at.AddDate(0, 0, 2), at.Add(time.Second), {}, time.Unix(0, 0).UTC()} {
			texts = append(texts, at.Format(time.RFC3339))
		}
		texts = append(texts, at.In(time.FixedZone("", 3600)).Format(time.RFC3339), at.Add(time.Millisecond).Format(time.RFC3339Nano))
	}
	for _, s := range texts {
		b, _ := json.Marshal(s)
		all = append(all, string(b))
	}
	return all
}

// harmless are the fields that a signer may write otherwise without the image being another
// one: from when and until when, for which other types, and a counter that is not lower.
var harmless = []string{"counter", "created", "device_types", "expires"}

// TestEveryFieldMutated changes every field of the manifest to every other value that can be
// made of it, one at a time. With the signature of before nothing of the image is asked for.
// Signed anew with the trusted key it is refused for its form or for what it says, or ends when
// the image's bytes come; in no case does the line get a byte, unless it is of the image that is offered.
func TestEveryFieldMutated(t *testing.T) {
	tried, formed := 0, [][2]string{} // field and value of those with a manifest's form; times and image are the same in every world
	inSignedWorld(t, 20_000, func(w *signedWorld) {
		good := trust.ParseBundle(w.bundle(w.image, w.terms(), w.key))
		names, values := manifestFields(t, good.Text)
		for _, field := range names {
			for _, other := range append(otherValues(t, values[field]), "") {
				tried++
				text := mutated(names, values, field, other)
				w.wantRefused(fmt.Sprintf("old-%d", tried), trust.Signed{Text: text, Signatures: good.Signatures}, trust.ErrBadSignature)
				if _, err := trust.DecodeManifest(text); err == nil {
					formed = append(formed, [2]string{field, other})
				} else {
					w.wantRefused(fmt.Sprintf("new-%d", tried), w.signed(text), trust.ErrMalformed)
				}
			}
		}
		if len(names) != 12 || tried < 150 || len(formed) < 20 {
			t.Errorf("%d mutations of %q, %d of them with a manifest's form", tried, names, len(formed))
		}
	})
	passed := map[string]bool{}
	for _, m := range formed {
		inSignedWorld(t, 20_000, func(w *signedWorld) {
			if w.wantOfferedOrNothing(m[0], m[1]) {
				passed[m[0]] = true
			}
		})
	}
	if got := slices.Sorted(maps.Keys(passed)); !slices.Equal(got, harmless) {
		t.Errorf("signed anew, an update went on with another %q; want that of %q only", got, harmless)
	}
}

// mutated is a manifest's text with another value of a field, or without it if other is empty.
func mutated(names []string, values map[string]json.RawMessage, field, other string) []byte {
	changed := maps.Clone(values)
	if changed[field] = json.RawMessage(other); other == "" {
		delete(changed, field)
	}
	return manifestText(names, changed)
}

// signed is a text that the trusted key has signed.
func (w *signedWorld) signed(text []byte) trust.Signed {
	w.Helper()
	sig, err := w.key.Sign(text, "")
	if err != nil {
		w.Fatal(err)
	}
	return trust.Signed{Text: text, Signatures: trust.EncodeSignatures([]trust.Signature{sig})}
}

// offerWith offers the image with a signed manifest and returns how it ended, and how many
// pieces went to the line.
func (w *signedWorld) offerWith(execution string, s trust.Signed) (schemas.Status, int) {
	w.Helper()
	before := len(w.written.loads(w))
	o := w.serve(w.theOffer(), s.Bundle())
	o.Execution, o.Force = execution, true
	w.service.offer(pump, o)
	st := w.awaitEnd(execution)
	return st, len(w.written.loads(w)) - before
}

// wantRefused says that nothing but the manifest is asked for, and what the refusal is counted as.
func (w *signedWorld) wantRefused(execution string, s trust.Signed, reason trust.Reason) {
	w.Helper()
	counted, served := w.manifests(string(reason)), w.service.bytes()
	st, loads := w.offerWith(execution, s)
	if st.State != schemas.StateRejected || st.Cause != schemas.CauseSignature || w.manifests(string(reason)) != counted+1 {
		w.Errorf("%s, cause %q, %s; want it refused as %s\n%s", st.State, st.Cause, st.Detail, reason, s.Text)
	}
	if n := w.service.bytes() - served; loads > 0 || n != len(s.Bundle()) {
		w.Errorf("%d pieces went to the line, %d bytes were served\n%s", loads, n, s.Text)
	}
}

// wantOfferedOrNothing has the trusted key sign a manifest in which one field is another, and
// says whether the update went on.
func (w *signedWorld) wantOfferedOrNothing(field, other string) bool {
	w.Helper()
	names, values := manifestFields(w.T, trust.ParseBundle(w.bundle(w.image, w.terms(), w.key)).Text)
	st, loads := w.offerWith(theExecution, w.signed(mutated(names, values, field, other)))
	switch {
	case st.State == schemas.StateSucceeded && loads > 0:
		w.wantImage(pump)
		return true
	case loads > 0:
		w.Errorf("%s %s: %d pieces went to the line; %s, %s", field, other, loads, st.State, st.Detail)
	case st.State == schemas.StateRejected && st.Cause == schemas.CauseSignature && strings.HasPrefix(st.Detail, "The bridge refused the image: "):
	case st.State == schemas.StateFailed && st.Cause == schemas.CauseChecksum && field == "blocks":
	default:
		w.Errorf("%s %s: %s, cause %q, %s", field, other, st.State, st.Cause, st.Detail)
	}
	return false
}
