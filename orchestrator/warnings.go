package orchestrator

import (
	"fmt"
	"slices"
	"strings"
)

// maxDuplicates is how many images of the same content are named.
const maxDuplicates = 5

// duplicates are images that have the same content.
type duplicates struct {
	images []Image
	more   bool // than maxDuplicates
}

// sameContent finds images with the content, but for the one named.
func sameContent(r Reader, sum, but string) (duplicates, error) {
	var ids []string
	var d duplicates
	if err := r.Scan(indexImageByBlob, prefixOf(sum), nil, func(_, id []byte) bool {
		switch {
		case string(id) == but:
		case len(ids) == maxDuplicates:
			d.more = true
		default:
			ids = append(ids, string(id))
		}
		return !d.more
	}); err != nil {
		return d, err
	}
	for _, id := range ids {
		m, err := need[Image](r, "image", id)
		if err != nil {
			return d, fmt.Errorf("index %s: %w", indexImageByBlob, err)
		}
		d.images = append(d.images, *m)
	}
	return d, nil
}

// list are the ids.
func (d duplicates) list() []string {
	var ids []string
	for i := range d.images {
		ids = append(ids, d.images[i].ID)
	}
	return ids
}

// sentence warns of them, or is empty.
func (d duplicates) sentence() string {
	if len(d.images) == 0 {
		return ""
	}
	named := make([]string, len(d.images))
	for i := range d.images {
		m := &d.images[i]
		named[i] = fmt.Sprintf("%s (%s, version %s)", m.ID, m.ImageType, m.Version)
	}
	list := strings.Join(named, ", ")
	if d.more {
		list += " and others"
	}
	return "The same content is there already as " + list + "."
}

// warn sets the warnings of an image that is about to be written.
func (m *Image) warn(r Reader) error {
	m.Warnings = nil
	if d := m.Detected; d != nil {
		if d.Version != "" && !sameVersion(d.Version, m.Version) {
			m.Warnings = append(m.Warnings, fmt.Sprintf(
				"The file says that it is version %s, the image was given version %s; an update succeeds only if the host MCU then reports %s.",
				d.Version, m.Version, m.Version))
		}
		m.Warnings = append(m.Warnings, d.Problems...)
	}
	same, err := sameContent(r, m.SHA256, m.ID)
	if err != nil {
		return err
	}
	if s := same.sentence(); s != "" {
		m.Warnings = append(m.Warnings, s)
	}
	m.Warnings = slices.Clip(m.Warnings)
	return nil
}

// sameVersion says whether what a file says of its version is what people call
// it: a "v" in front, and the build number after "+", are often left out.
func sameVersion(file, typed string) bool {
	file, typed = strings.TrimPrefix(file, "v"), strings.TrimPrefix(typed, "v")
	if file == typed {
		return true
	}
	release, _, built := strings.Cut(file, "+")
	return built && release == typed
}

// maxRewarned is how many images lose a warning when their duplicate goes.
const maxRewarned = 100

// forgetDuplicate takes an image that was removed out of the warnings of
// those with the same content. That is no edit of theirs.
func (t *txn) forgetDuplicate(gone *Image) error {
	var ids []string
	if err := t.Scan(indexImageByBlob, prefixOf(gone.SHA256), nil, func(_, id []byte) bool {
		ids = append(ids, string(id))
		return len(ids) < maxRewarned
	}); err != nil {
		return err
	}
	for _, id := range ids {
		old, err := need[Image](t, "image", id)
		if err != nil {
			return fmt.Errorf("index %s: %w", indexImageByBlob, err)
		}
		if !slices.ContainsFunc(old.Warnings, func(w string) bool { return strings.Contains(w, gone.ID) }) {
			continue
		}
		rec := *old
		if err := rec.warn(t); err != nil {
			return err
		}
		if err := put(t, old, &rec); err != nil {
			return err
		}
	}
	return nil
}
