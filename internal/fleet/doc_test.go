package fleet

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestResultIsDocumented holds docs/cli.md and the names of the JSON result together.
func TestResultIsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n## A fleet without products\n")
	if !ok {
		t.Fatal("docs/cli.md has no chapter about the fleet")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var look func(t reflect.Type)
	look = func(typ reflect.Type) {
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("docs/cli.md does not say what %s is", name)
			}
			look(typ.Field(i).Type)
		}
	}
	look(reflect.TypeFor[Result]())
	for l := range links {
		if !strings.Contains(text, "`"+l.String()+"`") {
			t.Errorf("docs/cli.md does not have the state %s", l)
		}
	}
	for p := range phases {
		if !strings.Contains(text, "`"+p.String()+"`") {
			t.Errorf("docs/cli.md does not have the phase %s", p)
		}
	}
}
