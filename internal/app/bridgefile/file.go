// Package bridgefile reads the configuration file of a bridge: YAML, with the
// names of the flags of davit bridge (docs/bridge.yaml). It owns the format and
// what is said about mistakes in it: each with its line, its field and what to
// do, as many at once as can be found (yamlfile).
//
// The package starts no goroutine, keeps no state and opens nothing but the file;
// which dialects there are it is told.
package bridgefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"davit/bridge"
	"davit/internal/app/yamlfile"
)

// File is what a file says. What it does not say is zero.
type File struct {
	// Broker, Username, PasswordFile, CA, TLSCert, TLSKey, Data, Metrics and Record are as the
	// flags of davit bridge; names of files are absolute, or relative as the name of
	// the configuration file is.
	Broker, Username, PasswordFile, CA, TLSCert, TLSKey, Data, Metrics, Record string
	OfferInterval, Defer                                                       time.Duration
	Window                                                                     int
	DrainTimeout                                                               *time.Duration // nil for none said
	Ports                                                                      []bridge.PortConfig
	// ImageKeys, KeyLists and RootKeys are names of files, as PasswordFile; RequireSignature is
	// nil for none said.
	ImageKeys, KeyLists, RootKeys         []string
	ImageKeysThreshold, RootKeysThreshold int
	RequireSignature                      *bool
}

// Load reads the file called name. dialects are those that ports can be
// configured for. The error is a *yamlfile.Error.
func Load(name string, dialects []string) (File, error) {
	b, err := read(name)
	if err != nil {
		return File{}, &yamlfile.Error{Name: name, Problems: []yamlfile.Problem{{Text: err.Error()}}}
	}
	return Parse(name, b, dialects)
}

// read returns the content of a regular file. What is not one could not be read
// once more at a reload, or might never end.
func read(name string) ([]byte, error) {
	switch info, err := os.Stat(name); {
	case err != nil:
		return nil, fmt.Errorf("the configuration file cannot be read: %w", yamlfile.Bare(err))
	case info.IsDir():
		return nil, errors.New("is a directory; name the configuration file in it")
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file; it has to be one, as a reload reads it again")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the configuration file cannot be read: %w", yamlfile.Bare(err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, yamlfile.MaxSize+1)) // Parse says that it is too long
	if err != nil {
		return nil, fmt.Errorf("the configuration file cannot be read: %w", yamlfile.Bare(err))
	}
	return b, nil
}

// Parse reads the content of the file called name, by whose folder relative names
// in it go. dialects are those that ports can be configured for. The error is
// a *yamlfile.Error.
func Parse(name string, content []byte, dialects []string) (File, error) {
	r := &reader{Reader: yamlfile.Reader{What: "a bridge's configuration", Example: example}, dir: filepath.Dir(name), dialects: dialects}
	f := File{}
	if root := r.Root(content); root != nil {
		r.file(root, &f)
	}
	if err := r.Err(name); err != nil {
		return File{}, err
	}
	return f, nil
}

// example is where people find how a file looks.
const example = "docs/bridge.yaml is an example"

// reader reads one file.
type reader struct {
	yamlfile.Reader
	dir      string
	dialects []string
}
