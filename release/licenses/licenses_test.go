package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// TestLicenseList: docs/licenses.md is what is linked, and all of it may be published.
func TestLicenseList(t *testing.T) {
	works, err := linked(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := judge(works); err != nil {
		t.Error(err)
	}
	var list, texts bytes.Buffer
	if err := writeList(&list, works); err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile(filepath.Join(root, "docs/licenses.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(list.Bytes(), document) {
		t.Error("docs/licenses.md is not what is linked; write it anew: go run ./release/licenses >docs/licenses.md")
	}
	if err := writeTexts(&texts, works); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"go.etcd.io/bbolt", "Go standard library: LICENSE", "htmx 2.0.11", "go-jose/v4 v4.1.4: json/LICENSE", "NOTICE"} {
		if !strings.Contains(texts.String(), want) {
			t.Errorf("the texts do not have %s", want)
		}
	}
}

func TestLicensesThatAreRefused(t *testing.T) {
	text := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	apache, zero := text(filepath.Join(root, "LICENSE")), text(filepath.Join(root, vendored, "htmx-2.0.11.LICENSE"))
	// The first paragraphs of a licence that asks for the source of whatever it is linked with.
	const gpl = "This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License as published by " +
		"the Free Software Foundation, either version 3 of the License, or (at your option) any later version."
	for _, c := range []struct {
		name, says string
		files      []file
	}{
		{"fine", "", []file{{"LICENSE", apache}}},
		{"two that are fine", "", []file{{"LICENSE", apache}, {"part/COPYING", zero}}},
		{"none", "none v1 has no licence", nil},
		{"a notice only", "has no licence", []file{{"NOTICE", apache}}},
		{"unknown words", "not known (LICENSE", []file{{"LICENSE", "You may look at this on Sundays."}}},
		{"mostly unknown", "not known (LICENSE", []file{{"LICENSE", zero + strings.Repeat("but not on Mondays ", 500)}}},
		{"not allowed", "is under GPL-3.0", []file{{"LICENSE", gpl}}},
		{"one of two not allowed", "is under GPL-3.0", []file{{"LICENSE", apache}, {"part/LICENSE", gpl}}},
		{"github.com/eclipse/paho.golang", "BSD-3-Clause in edl-v10 any more", []file{{"edl-v10", apache}}},
		{"github.com/eclipse/paho.golang", "any more", []file{{"LICENSE", apache}}},
	} {
		err := judge([]work{{name: c.name, version: "v1", files: c.files}})
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}

// TestVendoredFilesNeedALicense: a script that somebody puts there without its licence is found.
func TestVendoredFilesNeedALicense(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"lib-1.2.min.js", "lib-1.2.LICENSE", "font.woff2", "README.md"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	works, err := vendoredFiles(dir)
	if err != nil || len(works) != 2 || works[0].name != "font.woff2" || works[0].files != nil || works[1].name != "lib" || works[1].version != "1.2" || len(works[1].files) != 1 {
		t.Errorf("%+v %v", works, err)
	}
}
