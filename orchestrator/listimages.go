package orchestrator

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// imageScan is how many images one page of a listing looks at: decoding as many
// takes about 15 ms.
const imageScan = 1000

// Images lists images, the newest first; archived ones only when they are
// asked for. A filter by tag, image type or device type reads an index, every
// further one the images that the index holds. A page looks at a bounded number of
// images: it may be short, or empty, and still have a next one.
func (s *Service) Images(ctx context.Context, f ImageFilter, p Page) ([]Image, string, error) {
	if err := f.validate(); err != nil {
		return nil, "", err
	}
	rest, err := hex.DecodeString(p.After)
	if err != nil {
		return nil, "", invalidField("after", "not a cursor of this listing")
	}
	l := imageListing{filter: f, text: strings.ToLower(f.Text), limit: p.limit(), items: []Image{}}
	err = s.store.View(ctx, func(r Reader) error {
		l.items, l.next = l.items[:0], ""
		return l.read(r, rest)
	})
	return l.items, l.next, err
}

func (f ImageFilter) validate() error {
	for _, field := range []struct{ name, id string }{
		{"tag", f.Tag}, {"image_type", f.ImageType}, {"device_type", f.DeviceType},
	} {
		if field.id != "" {
			if err := checkID(field.name, field.id); err != nil {
				return err
			}
		}
	}
	return checkText("text", f.Text, maxSearch, false)
}

// imageListing is one page of a listing.
type imageListing struct {
	filter ImageFilter
	text   string
	limit  int
	items  []Image
	next   string
}

// index is where the page is read: the narrowest index that a filter names.
// In every one of them the place of an image under the prefix is the same.
func (l *imageListing) index() (Table, []byte) {
	switch f := l.filter; {
	case f.Tag != "":
		return indexImageByTag, prefixOf(f.Tag)
	case f.ImageType != "":
		return indexImageByType, prefixOf(f.ImageType)
	case f.DeviceType != "":
		return indexImageByDeviceType, prefixOf(f.DeviceType)
	case f.Archived:
		return indexImageArchived, nil
	}
	return indexImageByTime, nil
}

func (l *imageListing) read(r Reader, rest []byte) error {
	index, prefix := l.index()
	var after []byte
	if len(rest) > 0 {
		after = slices.Concat(prefix, rest)
	}
	looked := 0
	var last []byte
	var failed error
	err := r.Scan(index, prefix, after, func(k, id []byte) bool {
		if len(l.items) == l.limit || looked == imageScan {
			l.next = hex.EncodeToString(last)
			return false
		}
		looked++
		last = k[len(prefix):]
		m, err := need[Image](r, "image", string(id))
		if err != nil {
			failed = fmt.Errorf("index %s: %w", index, err)
			return false
		}
		if l.matches(m) {
			l.items = append(l.items, *m)
		}
		return true
	})
	if failed != nil {
		return failed
	}
	return err
}

func (l *imageListing) matches(m *Image) bool {
	f := l.filter
	return f.Archived != m.ArchivedAt.IsZero() &&
		(f.ImageType == "" || f.ImageType == m.ImageType) &&
		(f.DeviceType == "" || slices.Contains(m.DeviceTypes, f.DeviceType)) &&
		(f.Tag == "" || slices.Contains(m.Tags, f.Tag)) &&
		(l.text == "" || m.mentions(l.text))
}

// mentions says whether the image's texts hold a text in lower case.
func (m *Image) mentions(text string) bool {
	return slices.ContainsFunc(append([]string{m.Name, m.Version, m.Description, m.FileName}, m.Tags...), func(s string) bool {
		return strings.Contains(strings.ToLower(s), text)
	})
}
