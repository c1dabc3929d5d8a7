// Package bridgefile reads the configuration file of a bridge: YAML, with the
// names of the flags of davit bridge (docs/bridge.yaml). It owns the format and
// what is said about mistakes in it: each with its line, its field and what to
// do, as many at once as can be found (yamlfile).
//
// The package starts no goroutine, keeps no state and opens nothing but the file;
// which dialects there are it is told.
package bridgefile

import (
	"path/filepath"
	"time"

	"github.com/goccy/go-yaml/token"

	"davit/bridge"
	"davit/internal/app/settings"
	"davit/internal/app/yamlfile"
)

// File is what a file says. What it does not say is zero.
type File struct {
	// Broker, Username, PasswordFile, CA, TLSCert, TLSKey, Data, Metrics and Record are as the
	// flags of davit bridge; names of files are absolute, or relative as the name of
	// the configuration file is.
	Broker, Username, PasswordFile, CA, TLSCert, TLSKey, Data, Metrics, Record string
	// LogFormat is auto, text or json.
	LogFormat string
	// TraceEndpoint is where traces go; TraceRatio the share of updates that is traced.
	TraceEndpoint string
	TraceRatio    *float64
	// LogLevel is the least level that is logged, and that of parts of the program.
	LogLevel                             string
	OfferInterval, Defer, RotatePassword time.Duration
	Window                               int
	DrainTimeout                         *time.Duration // nil for none said
	Ports                                []bridge.PortConfig
	// ImageKeys, KeyLists and RootKeys are names of files, as PasswordFile; RequireSignature is
	// nil for none said.
	ImageKeys, KeyLists, RootKeys         []string
	ImageKeysThreshold, RootKeysThreshold int
	RequireSignature                      *bool
}

// Values are the settings of a file but ports, as texts and with their places, by their names.
type Values map[string]settings.Value

// Load reads the file called name. dialects are those that ports can be
// configured for, elsewhere the settings of other commands by their names, with the
// command. The error is a *yamlfile.Error with all that is wrong; what could be read is
// returned with it.
func Load(name string, dialects []string, elsewhere map[string]string) (File, Values, error) {
	b, err := yamlfile.ReadFile(name)
	if err != nil {
		return File{}, nil, err
	}
	return Parse(name, b, dialects, elsewhere)
}

// Parse reads the content of the file called name, by whose folder relative names
// in it go, as Load does.
func Parse(name string, content []byte, dialects []string, elsewhere map[string]string) (File, Values, error) {
	r := &reader{
		Reader: yamlfile.Reader{What: "a bridge's configuration", Example: example, Elsewhere: func(key string) string {
			if command, ok := elsewhere[key]; ok {
				return "is a setting of " + command + ", and this is a file of davit bridge; take it out"
			}
			return ""
		}},
		dir: filepath.Dir(name), dialects: dialects, values: Values{},
	}
	f := File{}
	if root := r.Root(content); root != nil {
		r.file(root, &f)
	}
	return f, r.values, r.Err(name)
}

// example is where people find how a file looks.
const example = "docs/bridge.yaml is an example"

// reader reads one file.
type reader struct {
	yamlfile.Reader
	dir      string
	dialects []string
	values   Values
}

// said notes what the file says of a setting; the fields of a port are none.
func (r *reader) said(prefix string, key *token.Token, texts ...string) {
	if prefix != "" {
		return
	}
	r.values[key.Value] = settings.Value{Texts: texts, Place: yamlfile.Place{Line: key.Position.Line, Column: key.Position.Column}}
}
