package settings

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"davit/internal/app/yamlfile"
)

// mentioned is a flag in a message: --name, or --group-* for several.
var mentioned = regexp.MustCompile(`--([a-z0-9]+(?:-[a-z0-9]+)*(?:-\*)?)`)

// Each are the errors that one is made of (errors.Join), or the one itself.
func Each(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, Each(e)...)
	}
	return all
}

// Locate says where the settings were given that an error is about; of an error that is several (Each), of
// each of them. It goes by the flags that a message names, of which the first that was given counts: those of
// a file make a *yamlfile.Error with their lines, with the settings by their bare names; one of the environment
// is put in front with its variable. Other errors stay as they are.
func Locate(err error, source func(name string) Source) error {
	var file yamlfile.Error
	var others []error
	for _, e := range Each(err) {
		e = locate(e, source)
		if bad, ok := e.(*yamlfile.Error); ok {
			file.Name, file.Problems = bad.Name, append(file.Problems, bad.Problems...)
			continue
		}
		others = append(others, e)
	}
	switch {
	case len(file.Problems) == 0 && len(others) == 1:
		return others[0]
	case len(file.Problems) == 0:
		return errors.Join(others...)
	}
	file.Sort()
	if len(others) == 0 {
		return &file
	}
	return errors.Join(append([]error{&file}, others...)...)
}

// Beside adds to what was found wrong while a file was read what is wrong with the values of that file that could
// be read, so that one look tells all. What has to do with a setting that was refused already is left
// out, because it may only follow from that.
func Beside(read, err error, source func(name string) Source) error {
	file, ok := read.(*yamlfile.Error)
	if !ok {
		return read
	}
	refused := map[string]bool{}
	for _, p := range file.Problems {
		name, _, _ := strings.Cut(p.Field, "[")
		refused[name] = true
	}
	all := yamlfile.Error{Name: file.Name, Problems: slices.Clone(file.Problems)}
	for _, e := range Each(err) {
		if slices.ContainsFunc(mentioned.FindAllStringSubmatch(e.Error(), -1), func(m []string) bool { return refused[m[1]] }) {
			continue
		}
		if more, ok := locate(e, source).(*yamlfile.Error); ok {
			all.Problems = append(all.Problems, more.Problems...)
		}
	}
	all.Sort()
	return &all
}

// locate is Locate for one error.
func locate(err error, source func(name string) Source) error {
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

// Locate says where the settings were given that an error is about.
func (s *Set) Locate(err error) error { return Locate(err, s.given) }

// Beside adds what err says of values of the file to what was found wrong while the file was read.
func (s *Set) Beside(read, err error) error { return Beside(read, err, s.given) }

// given is where a setting was given that a message names, or the first of several (NAME-*).
func (s *Set) given(name string) Source {
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
}
