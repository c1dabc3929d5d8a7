package bridgefile

import (
	"path/filepath"
	"strconv"

	"davit/bridge"
	"davit/bridge/portname"
	"davit/internal/app/settings"
)

// pairs are the fields of a port that are set, with absolute paths; those that are text in YAML are so marked.
func pairs(p bridge.PortConfig) (names, values []string, text []bool) {
	path := p.Path
	if name, err := portname.Parse(path); err == nil && name.IsPath() {
		if whole, err := filepath.Abs(path); err == nil {
			path = whole
		}
	}
	number := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	rtscts := ""
	if p.RTSCTS != nil {
		rtscts = map[bool]string{true: "on", false: "off"}[*p.RTSCTS]
	}
	for _, f := range []struct {
		name, value string
		text        bool
	}{
		{"device", p.Device, true}, {"port", path, true}, {"dialect", p.Dialect, true}, {"device-type", p.DeviceType, true}, {"baud", number(p.Baud), false}, {"parity", string(p.Parity), true},
		{"rtscts", rtscts, false}, {"version-property", p.VersionProperty, true}, {"attribute-size", number(p.AttributeSize), false}, {"load-size", number(p.LoadSize), false},
	} {
		if f.value != "" {
			names, values, text = append(names, f.name), append(values, f.value), append(text, f.text)
		}
	}
	return names, values, text
}

// PortLines are ports as the lines below ports: in a file.
func PortLines(ports []bridge.PortConfig) []string {
	var lines []string
	for _, p := range ports {
		names, values, text := pairs(p)
		for i, name := range names {
			indent := "    "
			if i == 0 {
				indent = "  - "
			}
			value := values[i]
			if text[i] {
				value = settings.Scalar(value)
			}
			lines = append(lines, indent+name+": "+value)
		}
	}
	return lines
}

// PortSpecs are ports as bridge.ParsePort takes them.
func PortSpecs(ports []bridge.PortConfig) []string {
	specs := []string{}
	for _, p := range ports {
		names, values, _ := pairs(p)
		spec := values[0] + "=" + values[1]
		for i := 2; i < len(names); i++ {
			spec += "," + names[i] + "=" + values[i]
		}
		specs = append(specs, spec)
	}
	return specs
}
