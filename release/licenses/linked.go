package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// work is something of others in the binary.
type work struct {
	name    string
	version string // empty for the standard library, whose version is the compiler's
	files   []file
	under   []string // the licences that it is under, once it was judged
}

// file is a text that its authors put beside it.
type file struct {
	name string // from the folder of the work, with slashes
	text string
}

// vendored is where files of others that the console brings stand, each with NAME.LICENSE beside it.
const vendored = "gateway/web/static/vendor"

// linked returns what is in the binary for linux/amd64, in order of the names.
func linked(root string) ([]work, error) {
	works, err := modules(root)
	if err != nil {
		return nil, err
	}
	std, err := standardLibrary(root)
	if err != nil {
		return nil, err
	}
	files, err := vendoredFiles(filepath.Join(root, vendored))
	if err != nil {
		return nil, err
	}
	works = append(append(works, std), files...)
	slices.SortFunc(works, func(a, b work) int { return strings.Compare(a.name, b.name) })
	return works, nil
}

// goCommand runs the go command for the platform that is published.
func goCommand(root string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOWORK=off", "GOFLAGS=-mod=readonly")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

// modules returns the modules of others, each with the licences that lie beside its packages that are
// linked, or above them: a folder of a module may be of other authors than the rest.
func modules(root string) ([]work, error) {
	out, err := goCommand(root, "list", "-deps", "-json=Dir,Module", "./cmd/davit")
	if err != nil {
		return nil, err
	}
	byPath, folders := map[string]*work{}, map[string]bool{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir    string
			Module *struct {
				Path, Version, Dir string
				Main               bool
			}
		}
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		if p.Module == nil || p.Module.Main {
			continue
		}
		w := byPath[p.Module.Path]
		if w == nil {
			w = &work{name: p.Module.Path, version: p.Module.Version}
			byPath[w.name] = w
		}
		for dir := p.Dir; !folders[dir]; dir = filepath.Dir(dir) {
			folders[dir] = true
			if err := w.read(p.Module.Dir, dir); err != nil {
				return nil, err
			}
			if dir == p.Module.Dir {
				break
			}
		}
	}
	var works []work
	for _, w := range byPath {
		slices.SortFunc(w.files, func(a, b file) int { return strings.Compare(a.name, b.name) })
		works = append(works, *w)
	}
	return works, nil
}

// read adds the licences and notices in a folder that lies in base.
func (w *work) read(base, folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !isLegal(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return err
		}
		name, err := filepath.Rel(base, filepath.Join(folder, e.Name()))
		if err != nil {
			return err
		}
		w.files = append(w.files, file{filepath.ToSlash(name), string(b)})
	}
	return nil
}

// isLegal says whether a file of this name is a licence, or what belongs to one.
func isLegal(name string) bool {
	return regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying|copyright|notice|patents|edl-v|epl-v)`).MatchString(name) && !strings.HasSuffix(name, ".go")
}

func standardLibrary(root string) (work, error) {
	out, err := goCommand(root, "env", "GOROOT")
	if err != nil {
		return work{}, err
	}
	w := work{name: "Go standard library"}
	goroot := strings.TrimSpace(string(out))
	return w, w.read(goroot, goroot)
}

// vendoredFiles returns what stands in the folder beside its licences.
func vendoredFiles(folder string) ([]work, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var works []work
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".min.js")
		if !ok {
			if strings.HasSuffix(e.Name(), ".LICENSE") || e.Name() == "README.md" {
				continue
			}
			name = e.Name()
		}
		w := work{name: name}
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			w.name, w.version = name[:i], name[i+1:]
		}
		b, err := os.ReadFile(filepath.Join(folder, name+".LICENSE"))
		if err == nil {
			w.files = []file{{name + ".LICENSE", string(b)}}
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		works = append(works, w)
	}
	return works, nil
}
