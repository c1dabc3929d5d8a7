package main

import (
	"bytes"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"davit/internal/app/keyfile"
	"davit/trust"
)

func (p *program) keyCommand() *cobra.Command {
	return p.parent("key", "Keys that sign images and key lists, in minisign's format", p.keyGenerate(), p.keyShow())
}

// keyFiles is what key generate and key show print.
type keyFiles struct {
	ID        string `json:"id"`
	PublicKey string `json:"public_key"`
	SecretKey string `json:"secret_key_file,omitempty"`
	File      string `json:"public_key_file,omitempty"`
}

func (p *program) keyGenerate() *cobra.Command {
	var name string
	var plain bool
	var passphrase passwordFlag
	cmd := p.command("generate -o NAME", "Make a key pair: NAME.key, which is secret, and NAME.pub", noArgs, func(*cobra.Command, []string) error {
		if name == "" {
			return usagef("key generate: name the key with -o NAME; the files are NAME.key and NAME.pub")
		}
		return p.generateKey(name, plain, passphrase)
	})
	cmd.Long = `Make an Ed25519 key pair in minisign's format. The stock minisign signs with NAME.key
and verifies with NAME.pub as well.

The secret key is encrypted with a passphrase, which is asked for. That takes seconds and
1 GiB of memory, each time that the key is used, so that guessing passphrases is dear.
With --no-passphrase whoever reads the file can sign.`
	f := cmd.Flags()
	f.StringVarP(&name, "output", "o", "", "name of the key's files, without their endings (required)")
	f.BoolVar(&plain, "no-passphrase", false, "do not encrypt the secret key")
	passphrase.addTo(cmd, "passphrase-file", "the passphrase in its first line")
	cmd.MarkFlagsMutuallyExclusive("no-passphrase", "passphrase-file")
	return cmd
}

func (p *program) generateKey(name string, plain bool, from passwordFlag) error {
	secret, public := name+".key", name+".pub"
	if err := absent("choose another name: whoever has only the new key cannot replace the old one", secret, public); err != nil {
		return err
	}
	out, err := createFile(secret)
	if err != nil {
		return err
	}
	defer out.abandon()
	passphrase := ""
	if !plain {
		if passphrase, err = p.newPassword(from, "the secret key "+secret); err != nil {
			return err
		}
	}
	key, err := trust.GenerateKey()
	if err != nil {
		return err
	}
	file, err := key.File(passphrase)
	if err != nil {
		return err
	}
	if err := writePublic(public, key.Public().File()); err != nil {
		return err
	}
	if _, err := out.fill(bytes.NewReader(file)); err != nil {
		return errors.Join(err, os.Remove(public)) // a public key without its secret one is good for nothing
	}
	id := key.Public().ID.String()
	return p.done(keyFiles{id, key.Public().String(), secret, public},
		"Key %s: %s is secret, readable by you only; %s is for those who verify:\n%s", id, secret, public, key.Public())
}

func (p *program) keyShow() *cobra.Command {
	return p.command("show KEY", "Show a public key: its file, or the key itself", oneArg("the key or its file"), func(_ *cobra.Command, args []string) error {
		key, err := keyfile.PublicKey(args[0])
		if err != nil {
			return err
		}
		return p.show(keyFiles{ID: key.ID.String(), PublicKey: key.String()}, func(w io.Writer) {
			fields(w, "id", key.ID.String(), "public key", key.String())
		})
	})
}
