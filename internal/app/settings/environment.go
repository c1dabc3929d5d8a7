package settings

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"davit/internal/app/yamlfile"
)

// Prefix is what the names of our environment variables begin with.
const Prefix = "DAVIT_"

// Variable is the environment variable of a setting: DAVIT_MAX_IN_PROGRESS of max-in-progress.
func Variable(name string) string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Environment gives the settings that no flag has given the values of their variables.
// environ is as os.Environ has it. A variable that is empty counts as not set. The values of a
// list stand behind one another with white space between them; one that has white space itself
// is put in double quotes.
//
// It returns a sentence for each variable that looks like one of ours and is none of the
// command's, without its value, which may be a secret. The error names each variable that
// cannot be used, in a line of its own.
func (s *Set) Environment(environ []string) (warnings []string, err error) {
	values := map[string]string{}
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		if strings.HasPrefix(name, Prefix) && value != "" {
			values[name] = value
		}
	}
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(s.flags)) {
		variable := Variable(name)
		value, ok := values[variable]
		delete(values, variable)
		if !ok || s.sources[name].Kind == Flag {
			continue
		}
		if err := s.fromVariable(name, value); err != nil {
			wrong = append(wrong, fmt.Errorf("%s %w", variable, err))
			continue
		}
		s.sources[name] = Source{Kind: Environment, Name: variable}
	}
	for _, variable := range slices.Sorted(maps.Keys(values)) {
		if !others(variable, values[variable]) {
			warnings = append(warnings, s.unknownVariable(variable))
		}
	}
	return warnings, errors.Join(wrong...)
}

// fromVariable gives a setting the value of its variable. Its flag then counts as given.
func (s *Set) fromVariable(name, value string) error {
	f := s.flags[name]
	texts := []string{value}
	if isList(f) {
		var err error
		if texts, err = words(value); err != nil {
			return err
		}
	} else if want, _ := wants(f); want == yamlfile.Switch {
		if on, ok := map[string]string{"true": "on", "1": "on", "false": "off", "0": "off"}[strings.ToLower(value)]; ok {
			texts[0] = on
		}
	}
	if err := assign(f, texts); err != nil {
		return err
	}
	f.Changed = true
	return nil
}

// ofKubernetes are the variables that Kubernetes makes for a service that is called davit. DAVIT_PORT,
// which it makes as well, is told by its value.
var ofKubernetes = regexp.MustCompile(`^DAVIT_(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// others says whether a variable is none of a program's settings, and right all the same: those of the
// commands of the API, of tests, and of Kubernetes.
func others(variable, value string) bool {
	return variable == "DAVIT_SERVER" || variable == "DAVIT_TOKEN" || strings.HasPrefix(variable, "DAVIT_TEST_") ||
		ofKubernetes.MatchString(variable) || variable == "DAVIT_PORT" && strings.Contains(value, "://")
}

// unknownVariable says what is the matter with a variable that is no setting of the command.
func (s *Set) unknownVariable(variable string) string {
	name := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, Prefix), "_", "-"))
	if command, ok := s.Elsewhere[name]; ok {
		return fmt.Sprintf("the environment variable %s is a setting of %s; %s takes no notice of it", variable, command, s.Command)
	}
	text := fmt.Sprintf("the environment variable %s names no setting of %s", yamlfile.Printable(variable), s.Command)
	if near, ok := yamlfile.Nearest(name, slices.Collect(maps.Keys(s.flags))); ok {
		text += "; did you mean " + Variable(near) + "?"
	}
	return text
}

// words are the values of a list: what stands between white space, or in double quotes.
func words(s string) ([]string, error) {
	var all []string
	for s = strings.TrimLeftFunc(s, unicode.IsSpace); s != ""; s = strings.TrimLeftFunc(s, unicode.IsSpace) {
		if rest, quoted := strings.CutPrefix(s, `"`); quoted {
			word, after, closed := strings.Cut(rest, `"`)
			if !closed || after != "" && !unicode.IsSpace(rune(after[0])) {
				return nil, errors.New(`has a double quote that does not end a value; write values with white space between them, such as a b "c d"`)
			}
			all, s = append(all, word), after
			continue
		}
		end := strings.IndexFunc(s, unicode.IsSpace)
		if end < 0 {
			end = len(s)
		}
		all, s = append(all, s[:end]), s[end:]
	}
	return all, nil
}
