// Package settings gives the settings of a command their values: each is a flag, a key
// of a configuration file and an environment variable of the same name. A flag wins over
// the environment, that over the file, and that over the default; of every setting it is
// known where its value comes from. The package owns that order, the form of the
// variables, and what is said about mistakes in them.
//
// It knows flags as pflag has them and no command. It starts no goroutine and opens
// nothing but the file that it is told to read.
package settings

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"davit/internal/app/yamlfile"
	"davit/trust"
)

// Kind is where a value comes from.
type Kind int

// Where a value comes from.
const (
	Default Kind = iota
	File
	Environment
	Flag
)

// Source is where the value of a setting comes from.
type Source struct {
	Kind Kind
	// Name is that of the file, of the variable, or of the flag with its dashes; empty
	// for a default.
	Name string
	// Place is where the key stands in a file.
	Place yamlfile.Place
}

// String is the source as it is shown: "default", "FILE:LINE", "DAVIT_NAME" or "--name".
func (s Source) String() string {
	switch s.Kind {
	case Default:
		return "default"
	case File:
		return s.Name + ":" + strconv.Itoa(s.Place.Line)
	}
	return s.Name
}

// PathAnnotation marks a flag whose value is the name of a file or folder, which in a
// configuration file goes from that file's folder on. Its value is PathOnly or PathOrKey.
const PathAnnotation = "davit_path"

// What a marked flag takes.
const (
	PathOnly  = "path"
	PathOrKey = "path or key" // a public key that is written out is no path
)

// configName is the flag that names the file, which no file can have.
const configName = "config"

// Set is the settings of one command.
type Set struct {
	// Command is what the command is called in messages, such as davit serve.
	Command string
	// Elsewhere has the settings of other commands by their names, and the command.
	Elsewhere map[string]string
	// Shown are values that are shown otherwise than their flag has them, by the name of
	// the setting.
	Shown map[string]func() string

	flags   map[string]*pflag.Flag // by the name of the setting
	keys    map[string]string      // setting by flag, where the two differ
	sources map[string]Source
}

// New returns the settings that the flags make, but those of except. renamed says which
// of them have another name as a setting.
func New(command string, flags *pflag.FlagSet, renamed map[string]string, except ...string) *Set {
	s := &Set{Command: command, flags: map[string]*pflag.Flag{}, keys: renamed, sources: map[string]Source{}}
	flags.VisitAll(func(f *pflag.Flag) {
		if slices.Contains(except, f.Name) {
			return
		}
		name := s.key(f.Name)
		s.flags[name] = f
		if f.Changed {
			s.sources[name] = Source{Kind: Flag, Name: "--" + f.Name}
		}
	})
	return s
}

// key is the name of the setting that a flag makes.
func (s *Set) key(flag string) string {
	if name, ok := s.keys[flag]; ok {
		return name
	}
	return flag
}

// Names are the settings that a file can have, in the order of the alphabet.
func (s *Set) Names() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.flags)), func(name string) bool { return name == configName })
}

// Source says where the value of a setting comes from, by the name of the setting or of its flag.
func (s *Set) Source(name string) Source { return s.sources[s.key(name)] }

// isList says whether a flag may be given several times.
func isList(f *pflag.Flag) bool {
	_, ok := f.Value.(pflag.SliceValue)
	return ok
}

// wants is what the value of a flag is written as in a file. Of some flags it is text or a
// number, as with a unit and without one: any.
func wants(f *pflag.Flag) (want yamlfile.Want, any bool) {
	switch f.Value.Type() {
	case "int", "int64", "uint64", "N":
		return yamlfile.Number, false
	case "float64":
		return yamlfile.Real, false
	case "bool":
		return yamlfile.Switch, false
	case "duration":
		return yamlfile.Time, false
	case "string", "stringArray":
		return yamlfile.Text, false
	}
	return yamlfile.Text, true
}

// assign gives a flag its value: one text, or those of a list. The error is a predicate that says
// what to write.
func assign(f *pflag.Flag, texts []string) error {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.Replace(texts)
	}
	text := texts[0]
	want, any := wants(f)
	if want == yamlfile.Switch {
		text = map[string]string{"on": "true", "off": "false"}[text]
	}
	err := f.Value.Set(text)
	switch {
	case err == nil:
		return nil
	case want == yamlfile.Number && f.Value.Type() != "N" && strings.Trim(text, "-0123456789") == "":
		return predicate(text, "that is more than a number can be here")
	case want == yamlfile.Number && f.Value.Type() != "N":
		return predicate(text, "write a whole number")
	case want == yamlfile.Switch:
		return predicate(texts[0], "write on or off")
	case want == yamlfile.Time && !any:
		return predicate(texts[0], yamlfile.TimeForm)
	}
	return predicate(texts[0], err.Error())
}

// badValue is what is wrong with a value.
type badValue struct{ text, remedy string }

func (e badValue) Error() string { return "is " + yamlfile.Printable(e.text) + "; " + e.remedy }

func predicate(text, remedy string) error { return badValue{text, remedy} }

// resolve makes the name of a file in a configuration file in dir one that can be opened.
func resolve(f *pflag.Flag, dir, text string) string {
	kind := f.Annotations[PathAnnotation]
	if len(kind) == 0 || text == "" || filepath.IsAbs(text) {
		return text
	}
	if kind[0] == PathOrKey {
		if _, err := trust.ParsePublicKey(text); err == nil {
			return text
		}
	}
	return filepath.Join(dir, text)
}
