package bridgefile

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"davit/bridge"
	"davit/bridge/portname"
	"davit/internal/app/address"
	"davit/internal/app/yamlfile"
	"davit/internal/logevent"
	"davit/internal/tracing"
	"davit/schemas"
	"davit/trust"
)

// known is a field that a file or a port can have. set takes its value as text;
// the error goes on after the field's name.
type known[T any] struct {
	name string
	want yamlfile.Want
	set  func(r *reader, to *T, value string) error
	path bool // the name of a file, which goes from the configuration file's folder on
}

// textField is a field that may have any text.
func textField(name string, to func(*File) *string) known[File] {
	return known[File]{name: name, want: yamlfile.Text, set: func(_ *reader, f *File, v string) error {
		*to(f) = v
		return nil
	}}
}

// fileField is the name of a file or folder.
func fileField(name string, to func(*File) *string) known[File] {
	return known[File]{name: name, want: yamlfile.Text, path: true, set: func(_ *reader, f *File, v string) error {
		*to(f) = v
		return nil
	}}
}

// durationField is a time that is not negative.
func durationField(name string, to func(*File, time.Duration)) known[File] {
	return known[File]{name: name, want: yamlfile.Time, set: func(_ *reader, f *File, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return fmt.Errorf("%s is %q; "+yamlfile.TimeForm, name, v)
		}
		to(f, d)
		return nil
	}}
}

// thresholdField is how many of some keys have to sign.
func thresholdField(name string, to func(*File) *int) known[File] {
	return known[File]{name: name, want: yamlfile.Number, set: func(_ *reader, f *File, v string) (err error) {
		n := to(f)
		if *n, err = strconv.Atoi(v); err != nil || *n < 1 || *n > trust.MaxKeys {
			return fmt.Errorf("%s is %q; write how many of the keys have to sign, 1 to %d", name, v, trust.MaxKeys)
		}
		return nil
	}}
}

// plainFields are the fields of a file that have one value.
func plainFields() []known[File] {
	return append(observeFields(), []known[File]{
		{name: "broker", want: yamlfile.Text, set: func(_ *reader, f *File, v string) error {
			f.Broker = v
			return address.CheckBroker(v)
		}},
		textField("username", func(f *File) *string { return &f.Username }),
		fileField("password-file", func(f *File) *string { return &f.PasswordFile }),
		fileField("ca", func(f *File) *string { return &f.CA }),
		fileField("tls-cert", func(f *File) *string { return &f.TLSCert }),
		fileField("tls-key", func(f *File) *string { return &f.TLSKey }),
		fileField("data", func(f *File) *string { return &f.Data }),
		{name: "metrics", want: yamlfile.Text, set: func(_ *reader, f *File, v string) error {
			f.Metrics = v
			return address.CheckListener(v)
		}},
		fileField("record", func(f *File) *string { return &f.Record }),
		{name: "rotate-password", want: yamlfile.Text, set: func(_ *reader, f *File, v string) (err error) {
			if f.RotatePassword, err = ParseAge(v); err != nil {
				return fmt.Errorf("rotate-password %w", err)
			}
			return nil
		}},
		durationField("offer-interval", func(f *File, d time.Duration) { f.OfferInterval = d }),
		{name: "defer", want: yamlfile.Time, set: func(_ *reader, f *File, v string) (err error) {
			if f.Defer, err = time.ParseDuration(v); err != nil {
				return fmt.Errorf("defer is %q; "+yamlfile.TimeForm, v)
			}
			if err := bridge.CheckDefer(f.Defer); err != nil {
				return fmt.Errorf("defer: %w", err)
			}
			return nil
		}},
		{name: "window", want: yamlfile.Number, set: func(_ *reader, f *File, v string) (err error) {
			if f.Window, err = strconv.Atoi(v); err != nil {
				return fmt.Errorf("window is %q; write a number of bytes", v)
			}
			if err := bridge.CheckWindow(f.Window); err != nil {
				return fmt.Errorf("window: %w", err)
			}
			return nil
		}},
		thresholdField("image-keys-threshold", func(f *File) *int { return &f.ImageKeysThreshold }),
		thresholdField("root-keys-threshold", func(f *File) *int { return &f.RootKeysThreshold }),
		{name: "require-signature", want: yamlfile.Switch, set: func(_ *reader, f *File, v string) error {
			if v != "on" && v != "off" {
				return fmt.Errorf("require-signature is %s; write on or off", yamlfile.Printable(v))
			}
			on := v == "on"
			f.RequireSignature = &on
			return nil
		}},
		durationField("drain-timeout", func(f *File, d time.Duration) { f.DrainTimeout = &d }),
	}...)
}

// observeFields are those of logs and traces.
func observeFields() []known[File] {
	return []known[File]{
		{name: "log-level", want: yamlfile.Text, set: func(_ *reader, f *File, v string) error {
			f.LogLevel = v
			if _, err := logevent.NewLevels(v, logevent.BridgeParts()); err != nil {
				return fmt.Errorf("log-level: %w", err)
			}
			return nil
		}},
		{name: "log-format", want: yamlfile.Text, set: func(_ *reader, f *File, v string) error {
			f.LogFormat = v
			if v != "auto" && v != "text" && v != "json" {
				return fmt.Errorf("log-format is %q; it is auto, text or json", v)
			}
			return nil
		}},
		{name: "trace-endpoint", want: yamlfile.Text, set: func(_ *reader, f *File, v string) error {
			f.TraceEndpoint = v
			if err := tracing.CheckEndpoint(v); err != nil {
				return fmt.Errorf("trace-endpoint: %w", err)
			}
			return nil
		}},
		{name: "trace-ratio", want: yamlfile.Real, set: func(_ *reader, f *File, v string) error {
			ratio, err := strconv.ParseFloat(v, 64)
			if err != nil || !(ratio >= 0 && ratio <= 1) {
				return fmt.Errorf("trace-ratio is %q; write a share from 0 to 1", v)
			}
			f.TraceRatio = &ratio
			return nil
		}},
	}
}

// The fields of a file that are lists.
const (
	portsField = "ports"
	keysField  = "image-keys"
	listsField = "key-list"
	rootsField = "root-keys"
)

// portFields are the fields of a port. The first two have to be there.
func portFields() []known[bridge.PortConfig] {
	option := func(name string, w yamlfile.Want) known[bridge.PortConfig] {
		return known[bridge.PortConfig]{name: name, want: w, set: func(_ *reader, p *bridge.PortConfig, v string) error { return p.Set(name, v) }}
	}
	return []known[bridge.PortConfig]{
		{name: "device", want: yamlfile.Text, set: func(_ *reader, p *bridge.PortConfig, v string) error {
			p.Device = v
			return schemas.ValidateID(v)
		}},
		{name: "port", want: yamlfile.Text, set: func(r *reader, p *bridge.PortConfig, v string) error {
			name, err := portname.Parse(v)
			if p.Path = v; err == nil && name.IsPath() {
				p.Path = r.path(v)
			}
			return err
		}},
		{name: "dialect", want: yamlfile.Text, set: func(r *reader, p *bridge.PortConfig, v string) error {
			p.Dialect = v
			if !slices.Contains(r.dialects, v) {
				return fmt.Errorf("dialect is %q; there are %s", v, strings.Join(slices.Sorted(slices.Values(r.dialects)), ", "))
			}
			return nil
		}},
		option("baud", yamlfile.Number),
		option("parity", yamlfile.Text),
		option("rtscts", yamlfile.Switch),
		option("device-type", yamlfile.Text),
		option("version-property", yamlfile.Text),
		option("attribute-size", yamlfile.Number),
		option("load-size", yamlfile.Number),
	}
}

// path makes a name relative to the configuration file's folder one that can be opened.
func (r *reader) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.dir, name)
}

// file reads the whole file into f.
func (r *reader) file(root ast.Node, f *File) {
	pairs, ok := r.Mapping(root, "", "the file has to begin with a setting such as broker: mqtt://HOST:1883; "+example)
	if !ok {
		return
	}
	fill(r, pairs, "", plainFields(), f, map[string]func(ast.Node) []string{
		portsField: func(n ast.Node) []string { r.ports(n, f); return nil },
		keysField:  func(n ast.Node) []string { return r.files(n, keysField, trust.MaxKeys, &f.ImageKeys) },
		listsField: func(n ast.Node) []string { return r.files(n, listsField, trust.MaxChain, &f.KeyLists) },
		rootsField: func(n ast.Node) []string { return r.files(n, rootsField, trust.MaxKeys, &f.RootKeys) },
	})
}

// ParseAge reads an age such as 12h or 30d. The error is a predicate that says what to write.
func ParseAge(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("is %q; write a duration such as 12h or 30d", s)
	}
	return d, nil
}

// files reads a list of names of files, or of keys themselves.
func (r *reader) files(n ast.Node, field string, most int, to *[]string) []string {
	list, ok := n.(*ast.SequenceNode)
	switch {
	case !ok:
		r.Wrong(yamlfile.Start(n), field, "is %s; write a list of files, each as - FILE", yamlfile.KindOf(n))
		return nil
	case len(list.Values) == 0 || len(list.Values) > most:
		r.Wrong(n.GetToken(), field, "has %d entries, allowed are 1 to %d; leave it out for none", len(list.Values), most)
		return nil
	}
	for i, entry := range list.Values {
		if name, ok := r.Scalar(entry, entry.GetToken(), fmt.Sprintf("%s[%d]", field, i), yamlfile.Text); ok {
			if _, err := trust.ParsePublicKey(name); err != nil { // a key that is written out is no file
				name = r.path(name)
			}
			*to = append(*to, name)
		}
	}
	return *to
}

// ports reads the list of ports.
func (r *reader) ports(n ast.Node, f *File) {
	list, ok := n.(*ast.SequenceNode)
	switch {
	case !ok:
		r.Wrong(yamlfile.Start(n), portsField, "is %s; write a list, where each port begins with - device:", yamlfile.KindOf(n))
		return
	case len(list.Values) == 0:
		r.Wrong(n.GetToken(), portsField, "is empty; a bridge needs at least one port, or leave it out and name them with --port")
		return
	case len(list.Values) > bridge.MaxPorts:
		r.Wrong(yamlfile.Start(list.Values[bridge.MaxPorts]), portsField, "has %d entries; a bridge serves at most %d, so start another one for the rest", len(list.Values), bridge.MaxPorts)
		return
	}
	seen := taken{devices: map[string]int{}, ports: map[string]int{}}
	for i, entry := range list.Values {
		f.Ports = append(f.Ports, r.port(entry, fmt.Sprintf("%s[%d]", portsField, i), seen))
	}
}

// taken are the lines in which devices and ports were named.
type taken struct{ devices, ports map[string]int }

// port reads one entry of the list.
func (r *reader) port(entry ast.Node, field string, seen taken) bridge.PortConfig {
	var p bridge.PortConfig
	pairs, ok := r.Mapping(entry, field, "write device: and port: for each entry of the list, under each other")
	if !ok {
		return p
	}
	values := fill(r, pairs, field+".", portFields(), &p, nil)
	for _, name := range []string{"device", "port"} {
		if !slices.ContainsFunc(pairs, func(v *ast.MappingValueNode) bool { return yamlfile.KeyOf(v) == name }) {
			r.Wrong(yamlfile.Start(entry), field, "has no %s; add a line %s under it", name, map[string]string{"device": "device: ID", "port": "port: PATH"}[name])
		}
	}
	if option, of := p.Foreign(); values[option] != nil {
		r.Wrong(yamlfile.Start(values[option]), field+"."+option, "is of dialect %s, and the port's is %s; leave it out", of, p.Dialect)
	}
	if n := values["device"]; n != nil {
		r.once(n, field+".device", p.Device, seen.devices, "is %s as in line %d; a line has one host MCU and a device one line")
	}
	if n := values["port"]; n != nil {
		key, _ := bridge.PortKey(p.Path) // it was read
		r.once(n, field+".port", key, seen.ports, "is %s as in line %d; a port has one host MCU behind it")
	}
	return p
}

// once notes a value that stood in an earlier entry.
func (r *reader) once(n ast.Node, field, value string, seen map[string]int, format string) {
	line := n.GetToken().Position.Line
	if first, double := seen[value]; double {
		r.Wrong(n.GetToken(), field, format, value, first)
		return
	}
	seen[value] = line
}

// fill sets the fields of to from pairs, and returns the values that were good.
// others are fields that are read by functions of their own, which return the texts of a list.
func fill[T any](r *reader, pairs []*ast.MappingValueNode, prefix string, fields []known[T], to *T, others map[string]func(ast.Node) []string) map[string]ast.Node {
	good := map[string]ast.Node{}
	var names []string
	for _, k := range fields {
		names = append(names, k.name)
	}
	names = slices.AppendSeq(names, maps.Keys(others))
	r.Members(pairs, prefix, names, func(key string, pair *ast.MappingValueNode) {
		if other := others[key]; other != nil {
			r.said(prefix, pair.Key.GetToken(), other(pair.Value)...)
			return
		}
		field := fields[slices.IndexFunc(fields, func(k known[T]) bool { return k.name == key })]
		value, ok := r.Scalar(pair.Value, pair.Key.GetToken(), prefix+key, field.want)
		if !ok {
			return
		}
		if field.path {
			value = r.path(value)
		}
		if err := field.set(r, to, value); err != nil {
			r.Wrong(pair.Value.GetToken(), prefix+key, "%s", yamlfile.Predicate(key, err))
			return
		}
		good[key] = pair.Value
		r.said(prefix, pair.Key.GetToken(), value)
	})
	return good
}
