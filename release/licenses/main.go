// Licenses lists what is linked into the davit binary with its licences: modules of others, the Go
// standard library and the files that the console brings. It reads the module cache and nothing else,
// and fails when something has no licence, or one that davit may not be published with.
//
//	go run ./release/licenses           writes docs/licenses.md to standard output
//	go run ./release/licenses -texts    writes the texts, which a release comes with
//
// It owns the list of licences that are allowed, and imports no package of ours.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	texts := flag.Bool("texts", false, "write the texts of the licences instead of the list")
	flag.Parse()
	if err := run(".", *texts, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", err)
		os.Exit(1)
	}
}

// run writes the list or the texts for the module in the folder root.
func run(root string, texts bool, w io.Writer) error {
	works, err := linked(root)
	if err != nil {
		return err
	}
	if err := judge(works); err != nil {
		return err
	}
	if texts {
		return writeTexts(w, works)
	}
	return writeList(w, works)
}
