package bridgefile

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"davit/bridge"
	"davit/bridge/portname"
	"davit/internal/app/address"
	"davit/schemas"
)

// want is what a value has to be written as.
type want int

const (
	wantText   want = iota
	wantNumber      // a whole number
	wantSwitch      // on or off
	wantTime        // with a unit
)

// timeForm is what to do about a time that is written otherwise.
const timeForm = "write a time such as 90s or 2m"

// known is a field that a file or a port can have. set takes its value as text;
// the error goes on after the field's name.
type known[T any] struct {
	name string
	want want
	set  func(r *reader, to *T, value string) error
}

// settings are the fields of a file beside ports.
func settings() []known[File] {
	text := func(name string, to func(*File) *string) known[File] {
		return known[File]{name, wantText, func(_ *reader, f *File, v string) error {
			*to(f) = v
			return nil
		}}
	}
	file := func(name string, to func(*File) *string) known[File] {
		return known[File]{name, wantText, func(r *reader, f *File, v string) error {
			*to(f) = r.path(v)
			return nil
		}}
	}
	duration := func(name string, to func(*File, time.Duration)) known[File] {
		return known[File]{name, wantTime, func(_ *reader, f *File, v string) error {
			d, err := time.ParseDuration(v)
			if err != nil || d < 0 {
				return fmt.Errorf("%s is %q; "+timeForm, name, v)
			}
			to(f, d)
			return nil
		}}
	}
	return []known[File]{
		{"broker", wantText, func(_ *reader, f *File, v string) error {
			f.Broker = v
			return address.CheckBroker(v)
		}},
		text("username", func(f *File) *string { return &f.Username }),
		file("password-file", func(f *File) *string { return &f.PasswordFile }),
		file("ca", func(f *File) *string { return &f.CA }),
		file("data", func(f *File) *string { return &f.Data }),
		{"metrics", wantText, func(_ *reader, f *File, v string) error {
			f.Metrics = v
			return address.CheckListener(v)
		}},
		file("record", func(f *File) *string { return &f.Record }),
		duration("offer-interval", func(f *File, d time.Duration) { f.OfferInterval = d }),
		{"defer", wantTime, func(_ *reader, f *File, v string) (err error) {
			if f.Defer, err = time.ParseDuration(v); err != nil {
				return fmt.Errorf("defer is %q; "+timeForm, v)
			}
			if err := bridge.CheckDefer(f.Defer); err != nil {
				return fmt.Errorf("defer: %w", err)
			}
			return nil
		}},
		duration("drain-timeout", func(f *File, d time.Duration) { f.DrainTimeout = &d }),
	}
}

// portsField is the one field of a file that is a list.
const portsField = "ports"

// portFields are the fields of a port. The first two have to be there.
func portFields() []known[bridge.PortConfig] {
	option := func(name string, w want) known[bridge.PortConfig] {
		return known[bridge.PortConfig]{name, w, func(_ *reader, p *bridge.PortConfig, v string) error { return p.Set(name, v) }}
	}
	return []known[bridge.PortConfig]{
		{"device", wantText, func(_ *reader, p *bridge.PortConfig, v string) error {
			p.Device = v
			return schemas.ValidateID(v)
		}},
		{"port", wantText, func(r *reader, p *bridge.PortConfig, v string) error {
			name, err := portname.Parse(v)
			if p.Path = v; err == nil && name.IsPath() {
				p.Path = r.path(v)
			}
			return err
		}},
		{"dialect", wantText, func(r *reader, p *bridge.PortConfig, v string) error {
			p.Dialect = v
			if !slices.Contains(r.dialects, v) {
				return fmt.Errorf("dialect is %q; there are %s", v, strings.Join(slices.Sorted(slices.Values(r.dialects)), ", "))
			}
			return nil
		}},
		option("baud", wantNumber),
		option("parity", wantText),
		option("rtscts", wantSwitch),
		option("version-property", wantText),
		option("attribute-size", wantNumber),
		option("load-size", wantNumber),
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
	pairs, ok := r.mapping(root, "", "the file has to begin with a setting such as broker: mqtt://HOST:1883; "+example)
	if !ok {
		return
	}
	fill(r, pairs, "", settings(), f, map[string]func(ast.Node){portsField: func(n ast.Node) { r.ports(n, f) }})
}

// ports reads the list of ports.
func (r *reader) ports(n ast.Node, f *File) {
	list, ok := n.(*ast.SequenceNode)
	switch {
	case !ok:
		r.wrong(start(n), portsField, "is %s; write a list, where each port begins with - device:", kindOf(n))
		return
	case len(list.Values) == 0:
		r.wrong(n.GetToken(), portsField, "is empty; a bridge needs at least one port, or leave it out and name them with --port")
		return
	case len(list.Values) > bridge.MaxPorts:
		r.wrong(start(list.Values[bridge.MaxPorts]), portsField, "has %d entries; a bridge serves at most %d, so start another one for the rest", len(list.Values), bridge.MaxPorts)
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
	pairs, ok := r.mapping(entry, field, "write device: and port: for each entry of the list, under each other")
	if !ok {
		return p
	}
	values := fill(r, pairs, field+".", portFields(), &p, nil)
	for _, name := range []string{"device", "port"} {
		if !slices.ContainsFunc(pairs, func(v *ast.MappingValueNode) bool { return keyOf(v) == name }) {
			r.wrong(start(entry), field, "has no %s; add a line %s under it", name, map[string]string{"device": "device: ID", "port": "port: PATH"}[name])
		}
	}
	if option, of := p.Foreign(); values[option] != nil {
		r.wrong(start(values[option]), field+"."+option, "is of dialect %s, and the port's is %s; leave it out", of, p.Dialect)
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
		r.wrong(n.GetToken(), field, format, value, first)
		return
	}
	seen[value] = line
}

// start is where a node begins: the token of a mapping is a colon.
func start(n ast.Node) *token.Token {
	if pairs := pairsOf(n); len(pairs) > 0 {
		return pairs[0].Key.GetToken()
	}
	return n.GetToken()
}

// mapping takes a node that has to be key: value pairs. hint says what to do if
// it is something else.
func (r *reader) mapping(n ast.Node, field, hint string) ([]*ast.MappingValueNode, bool) {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return pairsOf(n), true
	}
	subject := field
	if subject == "" {
		subject = "this"
	}
	r.wrong(start(n), subject, "is %s; %s", kindOf(n), hint)
	return nil, false
}

func pairsOf(n ast.Node) []*ast.MappingValueNode {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}
	}
	return nil
}

func keyOf(v *ast.MappingValueNode) string { return v.Key.GetToken().Value }

// fill sets the fields of to from pairs, and returns the values that were good.
// others are fields that are read by functions of their own.
func fill[T any](r *reader, pairs []*ast.MappingValueNode, prefix string, fields []known[T], to *T, others map[string]func(ast.Node)) map[string]ast.Node {
	good, first := map[string]ast.Node{}, map[string]int{}
	for _, pair := range pairs {
		key, at := keyOf(pair), pair.Key.GetToken()
		i := slices.IndexFunc(fields, func(k known[T]) bool { return k.name == key })
		other := others[key]
		if i < 0 && other == nil {
			names := make([]string, 0, len(fields)+len(others))
			for _, k := range fields {
				names = append(names, k.name)
			}
			for name := range others {
				names = append(names, name)
			}
			r.wrong(at, prefix+printable(key), "is not known; %s", suggestion(key, names))
			continue
		}
		if line, double := first[key]; double {
			r.wrong(at, prefix+key, "stands twice, first in line %d; take one of them out", line)
			continue
		}
		first[key] = at.Position.Line
		if pair.Value.Type() == ast.NullType {
			r.wrong(at, prefix+key, "has no value; give it one, or take the line out")
			continue
		}
		if other != nil {
			other(pair.Value)
			continue
		}
		value, ok := r.scalar(pair.Value, at, prefix+key, fields[i].want)
		if !ok {
			continue
		}
		if err := fields[i].set(r, to, value); err != nil {
			r.wrong(pair.Value.GetToken(), prefix+key, "%s", predicate(key, err))
			continue
		}
		good[key] = pair.Value
	}
	return good
}

// predicate makes an error about a field one that goes on after its name.
func predicate(name string, err error) string {
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, name+" "); ok {
		return rest
	}
	if rest, ok := strings.CutPrefix(text, name+":"); ok {
		return ":" + rest
	}
	return ": " + text
}

// scalar is a value as text, if it is written as it has to be.
func (r *reader) scalar(n ast.Node, key *token.Token, field string, w want) (string, bool) {
	at := start(n)
	text, isText := n.(*ast.StringNode)
	switch {
	case w == wantNumber && (n.Type() == ast.IntegerType || at.Type == token.StringType && strings.Trim(at.Value, "0123456789") == ""):
		return at.Value, true // a number that is too long for the parser is text to it
	case w == wantNumber:
		r.wrong(at, field, "is %s; write a whole number, without quotes", kindOf(n))
	case w == wantTime && n.Type() == ast.IntegerType && at.Value == "0":
		return at.Value, true // as of the flags, the one time that needs no unit
	case w == wantTime && (n.Type() == ast.IntegerType || n.Type() == ast.FloatType):
		r.wrong(at, field, "is %s without a unit; "+timeForm, kindOf(n))
	case w == wantSwitch && n.Type() == ast.BoolType:
		return map[string]string{"true": "on", "false": "off"}[strings.ToLower(at.Value)], true
	case !isText && n.Type() != ast.BoolType && n.Type() != ast.IntegerType && n.Type() != ast.FloatType && n.Type() != ast.InfinityType && n.Type() != ast.NanType:
		r.wrong(at, field, "is %s; write one value behind the colon", kindOf(n))
	case !isText:
		r.wrong(at, field, "is %s; put it in quotes: %s: %q", kindOf(n), key.Value, at.Value)
	case text.Value == "":
		r.wrong(at, field, "has no value; give it one, or take the line out")
	case strings.ContainsFunc(text.Value, func(c rune) bool { return !unicode.IsPrint(c) }):
		r.wrong(at, field, "is %s, with characters that cannot be printed; take them out", printable(text.Value))
	default:
		return text.Value, true
	}
	return "", false
}

// kindOf says in words what a value is.
func kindOf(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a group of settings"
	case ast.SequenceType:
		return "a list"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "a number"
	case ast.BoolType:
		return "a yes or no"
	case ast.NullType:
		return "empty"
	case ast.LiteralType:
		return "a block of text"
	}
	return "text"
}

// maxShown is how much of a text is shown, in bytes.
const maxShown = 60

// printable is a text as it may be shown on a terminal: as it is, or quoted and
// cut short.
func printable(s string) string {
	if len(s) > maxShown {
		return strconv.Quote(strings.ToValidUTF8(s[:maxShown], "")) + "..."
	}
	if q := strconv.Quote(s); s == "" || q != `"`+s+`"` {
		return q
	}
	return s
}

// suggestion names the known field that is written most like name, or all.
func suggestion(name string, names []string) string {
	slices.Sort(names)
	best, least := "", 1+max(2, len(name)/3)
	for _, n := range names {
		if d := distance(strings.ToLower(name), n); d < least {
			best, least = n, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "there are " + strings.Join(names, ", ")
}

// distance is how many letters have to be put in, taken out or changed to make b
// of a (Levenshtein), or len(a) for an a that is much longer.
func distance(a, b string) int {
	if len(a) > 2*len(b)+2 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(change, corner+1, row[j]+1)
		}
	}
	return row[len(b)]
}
