package settings

import (
	"fmt"
	"regexp"
	"strings"

	"davit/internal/app/yamlfile"
)

// mentioned is a flag in a message: --name, or --group-* for several.
var mentioned = regexp.MustCompile(`--([a-z0-9]+(?:-[a-z0-9]+)*(?:-\*)?)`)

// Locate says where a setting was given that an error is about. It goes by the flags that the
// message names, of which the first that was given counts: one of a file makes the error a
// *yamlfile.Error with its line, with the settings by their bare names; one of the environment is
// put in front with its variable. Other errors are returned as they are.
func Locate(err error, source func(name string) Source) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, m := range mentioned.FindAllStringSubmatch(text, -1) {
		switch s := source(m[1]); s.Kind {
		case File:
			text = mentioned.ReplaceAllString(text, "$1")
			p := yamlfile.Problem{Line: s.Place.Line, Column: s.Place.Column, Text: text}
			if name := strings.TrimSuffix(m[1], "-*"); name == m[1] && (strings.HasPrefix(text, name+" ") || strings.HasPrefix(text, name+":")) {
				p.Field, p.Text = name, yamlfile.Predicate(name, fmt.Errorf("%s", text))
			}
			return &yamlfile.Error{Name: s.Name, Problems: []yamlfile.Problem{p}}
		case Environment:
			return fmt.Errorf("%s: %w", s.Name, err)
		case Flag:
			return err
		}
	}
	return err
}

// Locate says where the setting was given that an error is about.
func (s *Set) Locate(err error) error {
	return Locate(err, func(name string) Source {
		prefix, several := strings.CutSuffix(name, "*")
		if !several {
			return s.Source(name)
		}
		for _, n := range s.Names() {
			if at := s.Source(n); strings.HasPrefix(n, prefix) && at.Kind != Default {
				return at
			}
		}
		return Source{}
	})
}
