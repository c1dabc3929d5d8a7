package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app/keyfile"
	"davit/internal/durable"
	"davit/orchestrator/firmware"
	"davit/trust"
)

// signers are the secret keys that a command signs with.
type signers struct {
	files      []string
	passphrase passwordFlag
}

func (s *signers) addTo(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&s.files, "key", nil, "secret key file to sign with (required); repeatable")
	s.passphrase.addTo(cmd, "passphrase-file", "the passphrase of the keys in its first line")
}

// read reads the keys and asks for the passphrases of those that have one.
func (s *signers) read(p *program, cmd *cobra.Command) ([]trust.PrivateKey, error) {
	if len(s.files) == 0 {
		return nil, usagef("%s: name the secret key to sign with with --key FILE", cmd.CommandPath())
	}
	var keys []trust.PrivateKey
	for _, path := range s.files {
		file, err := keyfile.ReadBounded(path, keyfile.MaxKeyFile)
		if err != nil {
			return nil, err
		}
		passphrase := ""
		if trust.NeedsPassphrase(file) {
			if passphrase, err = p.password(s.passphrase, fmt.Sprintf("Passphrase of %s: ", path)); err != nil {
				return nil, err
			}
		}
		key, err := trust.ParsePrivateKey(file, passphrase)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		p.warnOfReaders(path)
		keys = append(keys, key)
	}
	return keys, nil
}

// warnOfReaders tells that others may read a file that has a secret in it: who made or copied it
// may not know.
func (p *program) warnOfReaders(path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		fmt.Fprintf(p.err, "davit: %s holds a secret key and others may read it: it has mode %04o; chmod 600 %s\n", path, info.Mode().Perm(), path)
	}
}

// addSignatures signs a text with each key, in addition to the signatures that it
// has, and returns all of them.
func addSignatures(s trust.Signed, comment string, keys []trust.PrivateKey) ([]trust.Signature, error) {
	var all []trust.Signature
	if len(s.Signatures) > 0 {
		var err error
		if all, err = trust.ParseSignatures(s.Signatures); err != nil {
			return nil, err
		}
	}
	for _, key := range keys {
		id := key.Public().ID
		if slices.ContainsFunc(all, func(s trust.Signature) bool { return s.KeyID == id }) {
			return nil, fmt.Errorf("key %v has signed already; each key counts once", id)
		}
		signature, err := key.Sign(s.Text, comment)
		if err != nil {
			return nil, err
		}
		all = append(all, signature)
	}
	if len(all) > trust.MaxSignatures {
		return nil, fmt.Errorf("there would be %d signatures, at most %d are allowed", len(all), trust.MaxSignatures)
	}
	return all, nil
}

// writeSignatures puts them beside the text, for everybody to read.
func writeSignatures(path string, all []trust.Signature) error {
	return writePublic(path+keyfile.SignatureSuffix, trust.EncodeSignatures(all))
}

// writePublic writes a file that is no secret.
func writePublic(path string, data []byte) error {
	const everybody = 0o644
	if err := durable.WriteFile(path, data, everybody); err != nil {
		return fmt.Errorf("%s is not written: %w", path, err)
	}
	return nil
}

// absent refuses to write over what nobody could bring back.
func absent(remedy string, paths ...string) error {
	for _, path := range paths {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is there already, and is not written over; %s", path, remedy)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// flatImage has use read the image that a firmware file holds, as the service
// makes it from an upload: what a device gets is what is signed.
func (p *program) flatImage(path, format string, use func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, w := io.Pipe()
	flattened := make(chan error, 1)
	var info firmware.Info
	go func() {
		var err error
		info, err = firmware.Flatten(f, w, firmware.Options{Format: format, FileName: filepath.Base(path)})
		flattened <- err
		_ = w.CloseWithError(err)
	}()
	err = use(r)
	_ = r.CloseWithError(io.ErrClosedPipe)
	// An error of the file is use's as well, and says more by itself.
	if failed := <-flattened; failed != nil && (err == nil || errors.Is(err, failed)) {
		return failed
	}
	if err != nil {
		return err
	}
	for _, region := range info.LeftOut {
		fmt.Fprintf(p.err, "%s: %v\n", path, region)
	}
	return nil
}

// endForms are the forms of a time at which something ends.
const endForms = "2027-11-22T08:00:00Z, 2027-11-22, or how long from now, for example 365d or 12h"

// parseEnd reads a time in one of endForms.
func parseEnd(flag, s string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil && n > 0 {
			return trust.Moment(now.AddDate(0, 0, int(n))), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return trust.Moment(now.Add(d)), nil
	}
	for _, form := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.ParseInLocation(form, s, time.Local); err == nil {
			return trust.Moment(t), nil
		}
	}
	return time.Time{}, usagef("%s is %q; a time is written as %s", flag, s, endForms)
}

// signatureIDs are the ids of the keys by which signatures claim to be.
func signatureIDs(all []trust.Signature) []string {
	ids := []string{}
	for _, s := range all {
		ids = append(ids, s.KeyID.String())
	}
	return ids
}
