package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app/keyfile"
	"davit/trust"
)

func (p *program) keyListCommand() *cobra.Command {
	return p.parent("keylist", "Key lists: which keys are trusted for what, signed by root keys",
		p.keyListCreate(), p.keyListSign(), p.keyListShow(), p.keyListCheck())
}

// shownList is a key list as commands print it.
type shownList struct {
	File            string     `json:"file"`
	Version         uint64     `json:"version"`
	Created         time.Time  `json:"created"`
	Expires         time.Time  `json:"expires"`
	RootThreshold   int        `json:"root_threshold"`
	ImagesThreshold int        `json:"images_threshold"`
	Keys            []shownKey `json:"keys"`
	Revoked         []shownKey `json:"revoked"`
	Signatures      []string   `json:"signatures"`
	Verified        bool       `json:"verified"`
}

type shownKey struct {
	ID          string     `json:"id"`
	Role        trust.Role `json:"role,omitempty"`
	DeviceTypes []string   `json:"device_types,omitempty"`
	PublicKey   string     `json:"public_key"`
}

func newShownList(path string, l *trust.KeyList, signatures []trust.Signature, verified bool) shownList {
	s := shownList{File: path, Version: l.Version, Created: l.Created, Expires: l.Expires, RootThreshold: l.RootThreshold, ImagesThreshold: l.ImagesThreshold,
		Keys: []shownKey{}, Revoked: []shownKey{}, Signatures: signatureIDs(signatures), Verified: verified}
	for _, k := range l.Keys {
		s.Keys = append(s.Keys, shownKey{k.Key.ID.String(), k.Role, k.DeviceTypes, k.Key.String()})
	}
	for _, k := range l.Revoked {
		s.Revoked = append(s.Revoked, shownKey{ID: k.ID.String(), PublicKey: k.String()})
	}
	return s
}

func (s shownList) fields(w io.Writer) {
	lines := []string{"file", s.File, "version", strconv.FormatUint(s.Version, 10), "created", when(s.Created), "expires", when(s.Expires),
		"root keys to sign", strconv.Itoa(s.RootThreshold), "images keys to sign", strconv.Itoa(s.ImagesThreshold)}
	for _, k := range s.Keys {
		lines = append(lines, string(k.Role)+" key", strings.TrimSpace(k.PublicKey+" ("+k.ID+") "+strings.Join(k.DeviceTypes, " ")))
	}
	for _, k := range s.Revoked {
		lines = append(lines, "revoked", k.PublicKey+" ("+k.ID+")")
	}
	fields(w, append(lines, "signed by", strings.Join(s.Signatures, " "))...)
}

// followLists reads key lists and follows them from pinned root keys.
func followLists(paths, rootKeys []string, threshold int) (*trust.KeyRing, error) {
	if len(rootKeys) == 0 {
		return nil, usagef("name the pinned root keys with --root-key: a key list alone proves nothing")
	}
	return keyfile.Follow(paths, rootKeys, threshold)
}

func (p *program) keyListSign() *cobra.Command {
	var keys signers
	cmd := p.command("sign LIST --key KEY", "Add a root key's signature to a key list", oneArg("the key list"), func(cmd *cobra.Command, args []string) error {
		s, l, err := readKeyList(args[0])
		if err != nil {
			return err
		}
		secret, err := keys.read(p, cmd)
		if err != nil {
			return err
		}
		return p.signKeyList(args[0], s, l, secret, "Signature added.")
	})
	keys.addTo(cmd)
	return cmd
}

// readKeyList reads a list for its form only.
func readKeyList(path string) (trust.Signed, *trust.KeyList, error) {
	s, err := keyfile.Signed(path, trust.MaxKeyListSize)
	if err != nil {
		return s, nil, err
	}
	l, err := trust.DecodeKeyList(s.Text)
	if err != nil {
		return s, nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, l, nil
}

func (p *program) signKeyList(path string, s trust.Signed, l *trust.KeyList, keys []trust.PrivateKey, done string) error {
	all, err := addSignatures(s, l.TrustedComment(), keys)
	if err != nil {
		return fmt.Errorf("%s: %w", path+keyfile.SignatureSuffix, err)
	}
	if err := writeSignatures(path, all); err != nil {
		return err
	}
	result := newShownList(path, l, all, false)
	return p.show(result, func(w io.Writer) {
		fmt.Fprintln(w, done)
		result.fields(w)
	})
}

func (p *program) keyListShow() *cobra.Command {
	return p.command("show LIST", "Show what a key list says, without asking who says it", oneArg("the key list"), func(_ *cobra.Command, args []string) error {
		s, l, err := readKeyList(args[0])
		if err != nil {
			return err
		}
		var all []trust.Signature
		if len(s.Signatures) > 0 {
			if all, err = trust.ParseSignatures(s.Signatures); err != nil {
				return fmt.Errorf("%s: %w", args[0]+keyfile.SignatureSuffix, err)
			}
		}
		result := newShownList(args[0], l, all, false)
		return p.show(result, func(w io.Writer) {
			result.fields(w)
			fmt.Fprintln(w, "Nothing of it was verified; keylist check does that.")
		})
	})
}

func (p *program) keyListCheck() *cobra.Command {
	var roots []string
	var threshold int
	cmd := p.command("check LIST... --root-key KEY", "Follow key lists from pinned root keys, as a device does", func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s: name the key lists, from the oldest on", cmd.CommandPath())
		}
		return nil
	}, func(_ *cobra.Command, args []string) error {
		ring, err := followLists(args, roots, threshold)
		if err != nil {
			return err
		}
		if err := ring.Check(time.Now()); err != nil {
			return err
		}
		l, last := ring.List(), args[len(args)-1]
		s, err := keyfile.Signed(last, trust.MaxKeyListSize)
		if err != nil {
			return err
		}
		all, err := trust.ParseSignatures(s.Signatures)
		if err != nil {
			return err
		}
		result := newShownList(last, &l, all, true)
		return p.show(result, func(w io.Writer) {
			fmt.Fprintf(w, "Version %d of the key list is in force.\n", l.Version)
			result.fields(w)
		})
	})
	f := cmd.Flags()
	f.StringArrayVar(&roots, "root-key", nil, "pinned root key: its file, or the key itself (required); repeatable")
	wholeNumber(cmd, &threshold, "root-threshold", 0, trust.MaxKeys, "how many of the pinned root keys have to sign (default all)")
	return cmd
}
