package orchestrator

import (
	"fmt"
	"sort"
	"strings"

	"davit/orchestrator/query"
)

// deviceSource is where devices are read from, always in the order of their
// ids: so a place in it is an id, and stays right when the next page is read
// from another source.
type deviceSource struct {
	table   Table    // tableDevices, or an index
	prefix  string   // of the keys, in front of the id
	ids     string   // what the ids begin with
	members []string // instead of a table
	name    string   // for people
	size    int      // how many devices it has
}

// scan calls fn for each device after the id given; rec is nil when the source
// has no more than the id.
func (src *deviceSource) scan(r Reader, after string, fn func(id string, rec []byte) bool) error {
	if src.members != nil {
		at := sort.SearchStrings(src.members, max(after, src.ids))
		for _, id := range src.members[at:] {
			if !strings.HasPrefix(id, src.ids) || id != after && !fn(id, nil) {
				break
			}
		}
		return nil
	}
	var from []byte
	if after != "" {
		from = []byte(src.prefix + after)
	}
	return r.Scan(src.table, []byte(src.prefix+src.ids), from, func(k, v []byte) bool {
		if src.table != tableDevices {
			v = nil
		}
		return fn(string(k[len(src.prefix):]), v)
	})
}

// sourceOf returns the index that answers a hint; false if there is none.
func sourceOf(r Reader, h query.Hint) (deviceSource, bool, error) {
	src := deviceSource{}
	var err error
	switch h.Kind {
	case query.HintID:
		return deviceSource{members: []string{h.Value}, size: 1, name: fmt.Sprintf("the device %q", h.Value)}, true, nil
	case query.HintType:
		src = deviceSource{table: indexDeviceByType, prefix: string(prefixOf(h.Value)), name: fmt.Sprintf("the index of type %q", h.Value)}
		src.size, err = readCounter(r, countDevices, h.Value)
	case query.HintOnline:
		src = deviceSource{table: indexDeviceOnline, name: "the index of devices that are online"}
		src.size, err = readCounter(r, countOnline)
	case query.HintLabel:
		src = deviceSource{table: indexDeviceByLabel, prefix: string(prefixOf(h.Name + "=" + h.Value)), name: fmt.Sprintf("the index of label %s=%s", h.Name, h.Value)}
		src.size, err = readCounter(r, countLabels, h.Name, h.Value)
	case query.HintVersion:
		src = deviceSource{table: indexDeviceByVersion, prefix: string(keyOf(h.Name, h.Value, "")), name: fmt.Sprintf("the index of version %s of %s", h.Value, h.Name)}
		src.size, err = readCounter(r, countVersions, h.Name, h.Value)
	default:
		return src, false, nil
	}
	return src, true, err
}
