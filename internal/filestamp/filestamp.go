// Package filestamp tells whether a file has changed since it was read, without reading
// it. A file that is put in place by renaming is always seen; one that is written over within
// the resolution of the file system's times, at the same length, may be missed.
//
// It is a leaf: it imports nothing of this module, keeps nothing and starts nothing.
package filestamp

import "os"

// Stamp is how a file looked at one time; the zero value is one that was not there.
type Stamp struct{ info os.FileInfo }

// Of looks at a file.
func Of(file string) Stamp {
	info, err := os.Stat(file)
	if err != nil {
		return Stamp{}
	}
	return Stamp{info}
}

// All looks at several. To notice what is written meanwhile, do so before they are read.
func All(files []string) []Stamp {
	all := make([]Stamp, len(files))
	for i, file := range files {
		all[i] = Of(file)
	}
	return all
}

// Same says whether the file has not changed between the two.
func (s Stamp) Same(o Stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == nil && o.info == nil
	}
	return os.SameFile(s.info, o.info) && s.info.ModTime().Equal(o.info.ModTime()) && s.info.Size() == o.info.Size()
}
