package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// sum is a module's hash as go.sum and the linker write it.
func sum(text string) string {
	h := sha256.Sum256([]byte(text))
	return "h1:" + base64.StdEncoding.EncodeToString(h[:])
}

func module(path, version string) *debug.Module {
	return &debug.Module{Path: path, Version: version, Sum: sum(path + version)}
}

func build(deps ...*debug.Module) *buildinfo.BuildInfo {
	return &buildinfo.BuildInfo{GoVersion: "go1.26.8", Deps: deps, Settings: []debug.BuildSetting{{Key: "-trimpath", Value: "true"}, {Key: "CGO_ENABLED", Value: "0"}}}
}

// component is one of a bill, with the hash of a module.
func component(name, version, hashOf string) string {
	return fmt.Sprintf(`{"name":%q,"version":%q,"purl":"pkg:golang/%s@%s?type=module","hashes":[{"alg":"SHA-256","content":"%x"}]}`,
		name, version, name, version, sha256.Sum256([]byte(hashOf)))
}

const stdComponent = `{"name":"std","version":"go1.26.8","purl":"pkg:golang/std@go1.26.8?type=module"}`

// bill writes a document with components and returns its name.
func bill(t *testing.T, format string, components ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), billName)
	write(t, name, fmt.Sprintf(`{"bomFormat":%q,"components":[%s]}`, format, strings.Join(components, ",")))
	return name
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBillOfMaterials: whatever is in the bill and not in the binary is found, and the other way round.
func TestBillOfMaterials(t *testing.T) {
	a, b := component("a.example/x", "v1.0.0", "a.example/xv1.0.0"), component("b.example/y/v2", "v2.1.0", "b.example/y/v2v2.1.0")
	linked, err := linkedBy(build(module("a.example/x", "v1.0.0"), module("b.example/y/v2", "v2.1.0")))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, format string
		components   []string
		says         string
	}{
		{"the same", "CycloneDX", []string{a, b, stdComponent}, ""},
		{"one is missing", "CycloneDX", []string{a, stdComponent}, "b.example/y/v2 is in the binary and not in"},
		{"one too many", "CycloneDX", []string{a, b, stdComponent, component("c.example/z", "v1.0.0", "z")}, "c.example/z is in davit.cdx.json and not in the binary"},
		{"another version", "CycloneDX", []string{component("a.example/x", "v1.0.1", "a.example/xv1.0.0"), b, stdComponent}, "a.example/x is"},
		{"another hash", "CycloneDX", []string{component("a.example/x", "v1.0.0", "else"), b, stdComponent}, "a.example/x is"},
		{"no standard library", "CycloneDX", []string{a, b}, "std is in the binary"},
		{"twice", "CycloneDX", []string{a, a, b, stdComponent}, "twice"},
		{"a package URL of another", "CycloneDX", []string{strings.Replace(a, "pkg:golang/a.", "pkg:golang/evil.", 1), b, stdComponent}, "package URL"},
		{"another format", "SPDX", []string{a, b, stdComponent}, "no CycloneDX document"},
	} {
		parts, err := readBill(bill(t, c.format, c.components...))
		if err == nil {
			err = differences(linked, parts)
		}
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}

// TestBuildThatSaysNothing: a module that was replaced or has no hash cannot be listed.
func TestBuildThatSaysNothing(t *testing.T) {
	replaced, bare := module("a.example/x", "v1.0.0"), module("a.example/x", "v1.0.0")
	replaced.Replace, bare.Sum = &debug.Module{Path: "../x"}, ""
	for says, m := range map[string]*debug.Module{"replaced by ../x": replaced, "without its hash": bare} {
		if _, err := linkedBy(build(m)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	if err := settings(build()); err != nil {
		t.Error(err)
	}
	for says, s := range map[string][]debug.BuildSetting{
		"-trimpath":    {{Key: "CGO_ENABLED", Value: "0"}},
		"CGO_ENABLED":  {{Key: "-trimpath", Value: "true"}, {Key: "CGO_ENABLED", Value: "1"}},
		"vcs.revision": {{Key: "-trimpath", Value: "true"}, {Key: "CGO_ENABLED", Value: "0"}, {Key: "vcs.revision", Value: "abc"}},
	} {
		if err := settings(&buildinfo.BuildInfo{Settings: s}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}

// TestTamperedRelease: files that were changed after they were made.
func TestTamperedRelease(t *testing.T) {
	dir := t.TempDir()
	var list strings.Builder
	for _, name := range []string{binaryName, billName, licensesName, manualName} {
		write(t, filepath.Join(dir, name), "content of "+name)
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256([]byte("content of "+name)), name)
	}
	write(t, filepath.Join(dir, sumsName), list.String())
	if err := sums(dir); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, binaryName), "content of someone else")
	if err := sums(dir); err == nil || !strings.Contains(err.Error(), "does not have the hashes") {
		t.Errorf("a changed binary: %v", err)
	}
	linked := map[string]part{"a.example/x": {version: "v1.0.0"}, std: {version: "go1.26.8"}}
	const texts = "\na.example/x v1.0.0: LICENSE\n\nGo standard library: LICENSE\n"
	if err := withoutText(linked, texts); err != nil {
		t.Error(err)
	}
	for _, without := range []string{"a.example/x", "Go standard"} {
		if err := withoutText(linked, strings.Replace(texts, without, "else", 1)); err == nil {
			t.Errorf("no text for %s is not found", without)
		}
	}
	if _, err := verify(dir); err == nil {
		t.Error("a text is taken for a binary")
	}
}
