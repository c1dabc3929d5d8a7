package main

import (
	"fmt"
	"io"
	"strings"
)

// writeList writes docs/licenses.md, of works that were judged.
func writeList(w io.Writer, works []work) error {
	var b strings.Builder
	b.WriteString(`# Licences of what is in the binary

This page is generated from the module cache, and a test holds it against what is linked: go run ./release/licenses >docs/licenses.md

davit itself is under Apache-2.0. The binary for linux/amd64 has in it, beside that, what stands here. The texts are published with each release, as licenses.txt.
Allowed are ` + strings.Join(allowed(), ", ") + `; whatever has no licence, or another one, fails the test.

| work | version | licence |
|---|---|---|
`)
	var notes []string
	for _, x := range works {
		version := x.version
		if version == "" {
			version = "the compiler's"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", x.name, version, strings.Join(x.under, ", "))
		if c, ok := choices()[x.name]; ok {
			notes = append(notes, fmt.Sprintf("* %s is %s.\n", x.name, c.why))
		}
	}
	b.WriteString("\n" + strings.Join(notes, ""))
	b.WriteString("* The Go standard library brings the time zones of the IANA, which are in the public domain.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// writeTexts writes the texts, each under the names of the work and its file.
func writeTexts(w io.Writer, works []work) error {
	var b strings.Builder
	b.WriteString("The program davit contains works of others. Their licences and notices follow.\n")
	for _, x := range works {
		for _, f := range x.files {
			title := strings.TrimSpace(x.name+" "+x.version) + ": " + f.name
			fmt.Fprintf(&b, "\n%s\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), title, strings.Repeat("=", 80), strings.TrimSpace(f.text))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
