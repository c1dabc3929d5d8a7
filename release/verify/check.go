package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

// part is a module at a version. Its hash is that of go.sum, as hexadecimal SHA-256; the standard library
// has none.
type part struct{ version, hash string }

// std is the name of the standard library in a bill of materials.
const std = "std"

// linkedBy are the parts that the linker recorded, by module path.
func linkedBy(info *buildinfo.BuildInfo) (map[string]part, error) {
	parts := map[string]part{std: {version: info.GoVersion}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			return nil, fmt.Errorf("%s is replaced by %s, so its version says nothing", m.Path, m.Replace.Path)
		}
		sum, ok := strings.CutPrefix(m.Sum, "h1:")
		raw, err := base64.StdEncoding.DecodeString(sum)
		if !ok || err != nil || len(raw) != sha256.Size {
			return nil, fmt.Errorf("%s is recorded without its hash, but with %q", m.Path, m.Sum)
		}
		parts[m.Path] = part{m.Version, hex.EncodeToString(raw)}
	}
	return parts, nil
}

// settings says which settings of the build tie it to the machine that made it.
func settings(info *buildinfo.BuildInfo) error {
	want := map[string]string{"-trimpath": "true", "CGO_ENABLED": "0", "vcs.revision": ""}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(want)) {
		i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == name })
		got := ""
		if i >= 0 {
			got = info.Settings[i].Value
		}
		if got != want[name] {
			errs = append(errs, fmt.Errorf("the binary was built with %s=%q, want %q: build it with release/binary", name, got, want[name]))
		}
	}
	return errors.Join(errs...)
}

// readBill reads the components of a CycloneDX document.
func readBill(name string) (map[string]part, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var bill struct {
		Format     string `json:"bomFormat"`
		Components []struct {
			Name, Version, Purl string
			Hashes              []struct{ Alg, Content string }
		}
	}
	if err := json.Unmarshal(b, &bill); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if bill.Format != "CycloneDX" {
		return nil, fmt.Errorf("%s is no CycloneDX document: bomFormat is %q", name, bill.Format)
	}
	parts := map[string]part{}
	for _, c := range bill.Components {
		if _, twice := parts[c.Name]; twice {
			return nil, fmt.Errorf("%s lists %s twice", name, c.Name)
		}
		if want := "pkg:golang/" + c.Name + "@" + c.Version; !strings.HasPrefix(c.Purl, want+"?") {
			return nil, fmt.Errorf("%s: the package URL of %s is %s, want %s", name, c.Name, c.Purl, want)
		}
		p := part{version: c.Version}
		for _, h := range c.Hashes {
			if h.Alg == "SHA-256" {
				p.hash = h.Content
			}
		}
		parts[c.Name] = p
	}
	return parts, nil
}

// differences says what the bill lists that is not linked, and the other way round.
func differences(linked, bill map[string]part) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(linked)) {
		got, ok := bill[name]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s is in the binary and not in %s", name, billName))
		case got != linked[name]:
			errs = append(errs, fmt.Errorf("%s is %v in the binary and %v in %s", name, linked[name], got, billName))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(bill)) {
		if _, ok := linked[name]; !ok {
			errs = append(errs, fmt.Errorf("%s is in %s and not in the binary", name, billName))
		}
	}
	return errors.Join(errs...)
}

// withoutText says which of the parts have no text in licenses.txt.
func withoutText(linked map[string]part, texts string) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(linked)) {
		title := name + " " + linked[name].version + ": "
		if name == std {
			title = "Go standard library: "
		}
		if !strings.Contains(texts, "\n"+title) {
			errs = append(errs, fmt.Errorf("%s has no licence in %s", name, licensesName))
		}
	}
	return errors.Join(errs...)
}

// sums holds the files against SHA256SUMS.
func sums(folder string) error {
	list, err := os.ReadFile(filepath.Join(folder, sumsName))
	if err != nil {
		return err
	}
	var want strings.Builder
	for _, name := range []string{binaryName, billName, licensesName, manualName} {
		b, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&want, "%x  %s\n", sha256.Sum256(b), name)
	}
	if string(list) != want.String() {
		return fmt.Errorf("%s does not have the hashes of the files, which are\n%s", sumsName, want.String())
	}
	return nil
}
