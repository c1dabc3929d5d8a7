package replay_test

import (
	"bufio"
	"bytes"
	"os"
	"testing"

	"davit/bridge/dialect/afero"
	"davit/bridge/dialect/ayla"
	"davit/bridge/replay"
	"davit/bridge/sniff"
)

func dialects() map[string]replay.Dialect {
	return map[string]replay.Dialect{ayla.Name: ayla.Dialect{}, afero.Name: afero.Dialect{}}
}

func TestTry(t *testing.T) {
	for _, name := range []string{"ayla", "ayla-faults", "afero"} {
		for _, strict := range []bool{false, true} {
			b, err := os.ReadFile("../sniff/testdata/" + name + ".davitrec")
			if err != nil {
				t.Fatal(err)
			}
			o := replay.Options{Strict: strict}
			if testing.Verbose() && os.Getenv("TR") != "" {
				o.Trace = func(p sniff.Packet) { t.Log(p) }
			}
			r, err := replay.Run(bufio.NewReader(bytes.NewReader(b)), dialects(), o)
			t.Logf("%s %v: %+v %v", name, strict, r, err)
			if d := r.Difference; d != nil {
				t.Errorf("%+v %+v %+v", d, d.Recorded, d.Replayed)
			}
		}
	}
}
