package web

import "davit/orchestrator"

// choices is how many records a select or a list of suggestions offers.
const choices = 500

// deviceTypeOptions are the device types for a select, after the options given.
func (v *visit) deviceTypeOptions(first ...option) ([]option, error) {
	types, _, err := v.service.DeviceTypes(v.ctx(), orchestrator.Page{Limit: choices})
	for _, t := range types {
		first = append(first, named(t.ID, t.Name))
	}
	return first, err
}

// groupOptions are the groups, for suggestions.
func (v *visit) groupOptions() ([]option, error) {
	groups, _, err := v.service.Groups(v.ctx(), orchestrator.Page{Limit: choices})
	var out []option
	for _, g := range groups {
		out = append(out, option{g.ID, g.Description})
	}
	return out, err
}

func named(id, name string) option {
	if name == "" || name == id {
		return option{id, id}
	}
	return option{id, name + " (" + id + ")"}
}
