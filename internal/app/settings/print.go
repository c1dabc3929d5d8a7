package settings

import (
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"davit/internal/app/yamlfile"
)

// Effective is a setting with the value that is in force.
type Effective struct {
	Name string
	// Texts are the value, or those of a list; names of files are absolute.
	Texts []string
	// Block stands in the place of Texts in YAML: the lines below the name.
	Block []string
	// Source is where the value comes from.
	Source Source
	// None says that there is no value, only a default that a file need not say.
	None bool

	list, bare bool
}

// Effective are all settings with the values that are in force, in the order of the alphabet.
func (s *Set) Effective() []Effective {
	var all []Effective
	for _, name := range s.Names() {
		f := s.flags[name]
		e := Effective{Name: name, Source: s.sources[name], list: isList(f)}
		e.Texts = s.texts(name, f)
		want, any := wants(f)
		e.bare = want != yamlfile.Text || any && number.MatchString(e.Texts[0])
		switch {
		case e.list:
			e.None = len(e.Texts) == 0
		case e.Source.Kind == Default:
			e.None = slices.Contains([]string{"", "0", "0s"}, e.Texts[0])
		default:
			e.None = e.bare && e.Texts[0] == ""
		}
		all = append(all, e)
	}
	return all
}

// texts are the values of a flag as they are shown.
func (s *Set) texts(name string, f *pflag.Flag) []string {
	texts := []string{f.Value.String()}
	if shown := s.Shown[name]; shown != nil {
		texts = []string{shown()}
	} else if list, ok := f.Value.(pflag.SliceValue); ok {
		texts = slices.Clone(list.GetSlice())
	} else if want, _ := wants(f); want == yamlfile.Switch {
		texts[0] = map[string]string{"true": "on", "false": "off"}[texts[0]]
	}
	for i, text := range texts {
		if here, err := filepath.Abs("."); err == nil {
			text = resolve(f, here, text)
		}
		texts[i] = withoutPassword(text)
	}
	return texts
}

// withoutPassword takes the password out of a URL. No setting takes one there; who has tried is
// not shown it again.
func withoutPassword(text string) string {
	if u, err := url.Parse(text); err == nil && u.User != nil {
		return u.Redacted()
	}
	return text
}

// WriteYAML writes settings as a configuration file, each with where its value comes from. What has no
// value stands there as a comment.
func WriteYAML(w io.Writer, all []Effective) error {
	var b strings.Builder
	for _, e := range all {
		comment := " # " + e.Source.String() + "\n"
		switch {
		case e.Block != nil:
			b.WriteString(e.Name + ":" + comment + strings.Join(e.Block, "\n") + "\n")
		case e.None && e.bare && e.Texts[0] != "":
			b.WriteString("# " + e.Name + ": " + e.Texts[0] + comment)
		case e.None:
			b.WriteString("# " + e.Name + ":" + comment)
		case e.list:
			b.WriteString(e.Name + ":" + comment)
			for _, text := range e.Texts {
				b.WriteString("  - " + Scalar(text) + "\n")
			}
		case e.bare:
			b.WriteString(e.Name + ": " + e.Texts[0] + comment)
		default:
			b.WriteString(e.Name + ": " + Scalar(e.Texts[0]) + comment)
		}
	}
	_, err := io.WriteString(w, b.String())
	if err != nil {
		return fmt.Errorf("print the settings: %w", err)
	}
	return nil
}

// plain is text that no reader of YAML takes for something else, but for some words (Scalar).
var plain = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`)

// number is a value of a flag that may have a unit, without one.
var number = regexp.MustCompile(`^[0-9]+$`)

// Scalar is a text as a value in YAML.
func Scalar(text string) string {
	switch strings.ToLower(text) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null":
	default:
		if plain.MatchString(text) {
			return text
		}
	}
	return strconv.Quote(text)
}

// Value is the value as it is in JSON: a text, a list of texts, or nil for none.
func (e Effective) Value() any {
	switch {
	case e.list:
		return e.Texts
	case e.None && e.Texts[0] == "":
		return nil
	}
	return e.Texts[0]
}
