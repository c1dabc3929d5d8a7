package settings

import (
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
	"github.com/spf13/pflag"

	"davit/internal/app/yamlfile"
)

// Value is what a file says of a setting: one text or those of a list, with names of files
// that can be opened, and the place of its key.
type Value struct {
	Texts []string
	Place yamlfile.Place
}

// File reads a configuration file whose keys are the settings, and gives those that neither
// a flag nor the environment has given its values. example is where people find how
// such a file looks. The error is a *yamlfile.Error.
func (s *Set) File(name, example string) error {
	content, err := yamlfile.ReadFile(name)
	if err != nil {
		return err
	}
	return s.Parse(name, example, content)
}

// Parse does the same with the content of a file called name.
func (s *Set) Parse(name, example string, content []byte) error {
	r := &yamlfile.Reader{What: "a configuration of " + s.Command, Example: example, Elsewhere: s.elsewhere}
	root := r.Root(content)
	if root == nil {
		return r.Err(name)
	}
	pairs, ok := r.Mapping(root, "", "the file has to begin with a setting such as data: FOLDER; "+example)
	if !ok {
		return r.Err(name)
	}
	r.Members(pairs, "", s.Names(), func(key string, pair *ast.MappingValueNode) {
		f := s.flags[key]
		texts, ok := read(r, f, key, pair)
		if !ok {
			return
		}
		for i, text := range texts {
			texts[i] = resolve(f, filepath.Dir(name), text)
		}
		at := pair.Key.GetToken().Position
		if err := s.apply(key, name, Value{texts, yamlfile.Place{Line: at.Line, Column: at.Column}}); err != nil {
			r.Wrong(yamlfile.Start(pair.Value), key, "%v", err)
		}
	})
	return r.Err(name)
}

// elsewhere is what is wrong with a key that belongs to another command.
func (s *Set) elsewhere(key string) string {
	if key == configName {
		return "is for the command line and the environment only; take the line out"
	}
	if command, ok := s.Elsewhere[key]; ok {
		return "is a setting of " + command + ", and this is a file of " + s.Command + "; take it out"
	}
	return ""
}

// Apply gives a setting what a file called name says of it, unless a flag or the environment has given it.
func (s *Set) Apply(key, name string, v Value) error {
	if s.flags[key] == nil {
		return nil
	}
	return s.apply(key, name, v)
}

func (s *Set) apply(key, name string, v Value) error {
	if s.sources[key].Kind > File {
		return nil
	}
	if err := assign(s.flags[key], v.Texts); err != nil {
		return err
	}
	s.sources[key] = Source{Kind: File, Name: name, Place: v.Place}
	return nil
}

// read takes the value of a key as texts.
func read(r *yamlfile.Reader, f *pflag.Flag, key string, pair *ast.MappingValueNode) ([]string, bool) {
	if !isList(f) {
		text, ok := scalar(r, f, key, pair.Key.GetToken(), pair.Value)
		return []string{text}, ok
	}
	list, ok := pair.Value.(*ast.SequenceNode)
	if !ok {
		r.Wrong(yamlfile.Start(pair.Value), key, "is %s; write a list, where each entry begins with -", yamlfile.KindOf(pair.Value))
		return nil, false
	}
	texts, good := []string{}, true
	for _, entry := range list.Values {
		text, ok := scalar(r, f, key, nil, entry)
		texts, good = append(texts, text), good && ok
	}
	return texts, good
}

// scalar takes one value as text. Quotes with nothing between them are a text that is empty, which turns
// off what has a default.
func scalar(r *yamlfile.Reader, f *pflag.Flag, field string, key *token.Token, n ast.Node) (string, bool) {
	want, any := wants(f)
	if text, ok := n.(*ast.StringNode); ok && want == yamlfile.Text && key != nil && text.Value == "" {
		if t := n.GetToken().Type; t == token.SingleQuoteType || t == token.DoubleQuoteType {
			return "", true
		}
	}
	if any && (n.Type() == ast.IntegerType || n.Type() == ast.FloatType) {
		return strings.TrimSpace(n.GetToken().Value), true
	}
	return r.Scalar(n, key, field, want)
}

// Keys are the keys of a file, whatever file it is. The error is a *yamlfile.Error.
func Keys(name string, content []byte) ([]string, error) {
	const example = "docs/configuration.md has examples"
	r := &yamlfile.Reader{What: "a configuration", Example: example}
	var keys []string
	if root := r.Root(content); root != nil {
		if pairs, ok := r.Mapping(root, "", "the file has to begin with a setting such as data: FOLDER; "+example); ok {
			for _, pair := range pairs {
				keys = append(keys, yamlfile.KeyOf(pair))
			}
		}
	}
	return keys, r.Err(name)
}
