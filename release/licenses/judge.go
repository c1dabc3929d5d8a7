package main

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// allowed are the licences under which something of others may be a part of davit, by SPDX identifier.
// All of them let the binary be published under davit's own; what they ask for is that their texts come
// along, which licenses.txt of a release does.
func allowed() []string {
	return []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "Unlicense"}
}

// choice is what davit takes of a work that its authors offer under several licences.
type choice struct {
	file    string // where that licence stands
	license string
	why     string
}

func choices() map[string]choice {
	return map[string]choice{
		"github.com/eclipse/paho.golang": {"edl-v10", "BSD-3-Clause", "offered under the Eclipse Public License 2.0 or the Eclipse Distribution License 1.0, which is BSD-3-Clause; davit takes the latter"},
	}
}

// recognised is how much of a licence file has to be the text of known licences, in percent of its words.
// pkg.go.dev goes by the same figure. The rest are names and years.
const recognised = 75

// judge finds the works' licences, and says what is wrong with them; all of it.
func judge(works []work) error {
	var errs []error
	for i := range works {
		w := &works[i]
		found, err := w.licenses()
		w.under = found
		if err == nil && len(found) == 0 {
			err = errors.New("has no licence")
		}
		for _, id := range found {
			if !slices.Contains(allowed(), id) {
				err = errors.Join(err, fmt.Errorf("is under %s, which is not among those allowed: %s", id, strings.Join(allowed(), ", ")))
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %w", strings.TrimSpace(w.name+" "+w.version), err))
		}
	}
	return errors.Join(errs...)
}

// licenses are those that the work is under, all of which hold, in order.
func (w *work) licenses() ([]string, error) {
	chosen, isChosen := choices()[w.name]
	var ids []string
	for _, f := range w.files {
		if f.accompanies() || isChosen && f.name != chosen.file {
			continue
		}
		found := licensecheck.Scan([]byte(f.text))
		if found.Percent < recognised {
			return nil, fmt.Errorf("has a licence that is not known (%s, of which %.0f %% are)", f.name, found.Percent)
		}
		for _, m := range found.Match {
			ids = append(ids, m.ID)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if isChosen && !slices.Equal(ids, []string{chosen.license}) {
		return nil, fmt.Errorf("does not have %s in %s any more, under which davit takes it, but %v", chosen.license, chosen.file, ids)
	}
	return ids, nil
}

// accompanies says that the file is a notice or a grant of patents, which belong to a licence and are none.
func (f file) accompanies() bool {
	return regexp.MustCompile(`(?i)^(notice|patents)`).MatchString(path.Base(f.name))
}
