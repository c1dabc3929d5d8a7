// Package rolloutspec reads rollouts as people write them: in a file, YAML or JSON
// with the names of the API (docs/rollout.yaml), and the short forms of the command
// line's flags. It owns what is said about mistakes in either.
//
// Whether a rollout makes sense as a whole (waves over 100 %, windows that never
// open) is the service's to say; Place finds where in the file it is about. The
// package starts no goroutine, keeps no state and opens nothing but the file.
package rolloutspec

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"davit/internal/app/yamlfile"
	"davit/orchestrator"
	"davit/schemas"
)

// File is a rollout that was read from a file.
type File struct {
	Name    string
	Rollout orchestrator.Rollout

	places map[string]yamlfile.Place
}

// Load reads the file called name. The error is a *yamlfile.Error.
func Load(name string) (File, error) {
	b, err := read(name)
	if err != nil {
		return File{}, &yamlfile.Error{Name: name, Problems: []yamlfile.Problem{{Text: fmt.Sprintf("the rollout cannot be read: %v", yamlfile.Bare(err))}}}
	}
	return Parse(name, b)
}

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, yamlfile.MaxSize+1)) // Parse says that it is too long
}

// Parse reads the content of the file called name. The error is a *yamlfile.Error.
func Parse(name string, content []byte) (File, error) {
	d := yamlfile.Decoder{
		Reader: yamlfile.Reader{What: "a rollout; groups name many devices in one word", Example: example},
		Names:  map[reflect.Type][]string{reflect.TypeFor[schemas.Cause](): causeNames()},
	}
	f := File{Name: name}
	if root := d.Root(content); root != nil {
		d.Decode(root, &f.Rollout, "the file has to begin with a setting such as waves:; "+example)
	}
	if err := d.Err(name); err != nil {
		return File{}, err
	}
	f.places = d.Places
	return f, nil
}

// example is where people find how a file looks.
const example = "docs/rollout.yaml is an example"

func causeNames() []string {
	var names []string
	for _, c := range schemas.Causes() {
		names = append(names, string(c))
	}
	return names
}

// Place is where in the file a value stands that a JSON pointer into the rollout
// names, such as waves/0/percent: NAME:LINE:COLUMN. What the file does not say is
// where the nearest thing around it is, which may be the file as a whole.
func (f File) Place(pointer string) string {
	for pointer != "" {
		if p, ok := f.places[pointer]; ok {
			return fmt.Sprintf("%s:%d:%d", f.Name, p.Line, p.Column)
		}
		pointer = pointer[:max(0, strings.LastIndexByte(pointer, '/'))]
	}
	return f.Name
}
