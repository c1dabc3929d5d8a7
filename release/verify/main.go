// Verify holds the files of a release (release/build) against one another: the bill of materials lists
// exactly the modules, versions and hashes that the Go linker recorded in the binary, licenses.txt
// has a text for each of them, and SHA256SUMS is right. It runs nothing and reads the folder only, so it
// serves those who fetched a release as well as those who make one.
//
//	go run ./release/verify FOLDER
package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The files of a release.
const (
	binaryName   = "davit"
	billName     = "davit.cdx.json"
	licensesName = "licenses.txt"
	manualName   = "davit-man.tar.gz"
	sumsName     = "SHA256SUMS"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: verify FOLDER, where release/build has written")
		os.Exit(2)
	}
	n, err := verify(os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "verify: %s is not a release that belongs together:\n%v\n", os.Args[1], err)
		os.Exit(1)
	}
	fmt.Printf("%d modules and the standard library: binary, bill of materials, licences and hashes agree\n", n)
}

// verify returns how many modules are linked, and everything that does not agree.
func verify(folder string) (int, error) {
	info, err := buildinfo.ReadFile(filepath.Join(folder, binaryName))
	if err != nil {
		return 0, err
	}
	linked, err := linkedBy(info)
	if err != nil {
		return 0, err
	}
	bill, err := readBill(filepath.Join(folder, billName))
	if err != nil {
		return 0, err
	}
	texts, err := os.ReadFile(filepath.Join(folder, licensesName))
	if err != nil {
		return 0, err
	}
	err = errors.Join(settings(info), differences(linked, bill), withoutText(linked, string(texts)), sums(folder))
	return len(linked) - 1, err
}
