package schemas

import (
	"strings"
	"testing"
)

const exampleTraceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" // W3C Trace Context, section 3.2.3

func TestTraceparent(t *testing.T) {
	c, ok := ParseTraceparent(exampleTraceparent)
	if !ok || !c.Sampled || c.TraceID() != "4bf92f3577b34da6a3ce929d0e0e4736" || c.Traceparent() != exampleTraceparent {
		t.Fatalf("%+v %v", c, ok)
	}
	long := exampleTraceparent[2:]
	for s, want := range map[string]bool{
		exampleTraceparent[:53] + "00": true, exampleTraceparent[:53] + "ff": true, "cc" + long: true, "cc" + long + "-more": true,
		"": false, "ff" + long: false, "00" + long + "-more": false, "cc" + long + ".more": false, exampleTraceparent + "0": false,
		strings.ToUpper(exampleTraceparent): false, strings.Replace(exampleTraceparent, "4bf92f3577b34da6a3ce929d0e0e4736", strings.Repeat("0", 32), 1): false,
		strings.Replace(exampleTraceparent, "00f067aa0ba902b7", strings.Repeat("0", 16), 1): false, strings.ReplaceAll(exampleTraceparent, "-", "_"): false,
		strings.Replace(exampleTraceparent, "4", "g", 1): false, exampleTraceparent[:53] + "0x": false, "cc" + long + "-" + strings.Repeat("x", MaxTracestate): false,
	} {
		if _, ok := ParseTraceparent(s); ok != want {
			t.Errorf("%q: %v", s, ok)
		}
	}
	if (TraceContext{}).Traceparent() != "" {
		t.Error("no span has a traceparent")
	}
}

func FuzzTraceparent(f *testing.F) {
	for _, s := range []string{exampleTraceparent, "", "cc" + exampleTraceparent[2:] + "-x", exampleTraceparent[:53] + "00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := ParseTraceparent(s)
		if ok != c.Valid() {
			t.Fatalf("%q: %v %+v", s, ok, c)
		}
		if !ok {
			return
		}
		if again, ok := ParseTraceparent(c.Traceparent()); !ok || again != c {
			t.Fatalf("%q: %+v is read as %+v", s, c, again)
		}
		if c.Traceparent()[3:52] != s[3:52] {
			t.Fatalf("%q becomes %q", s, c.Traceparent())
		}
	})
}
