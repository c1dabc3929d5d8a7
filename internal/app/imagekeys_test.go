package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"davit/bridge"
	"davit/trust"
)

// signedOptions are those of a bridge's options with keys in files.
func signedOptions(t *testing.T, keys ...string) BridgeOptions {
	t.Helper()
	dir := t.TempDir()
	o := BridgeOptions{
		Broker: "mqtt://127.0.0.1:1", Username: "rack", PasswordFile: filepath.Join(dir, "password"), Data: filepath.Join(dir, "data"),
		Ports: []bridge.PortConfig{{Device: "pump", Path: "/nowhere", Dialect: "ayla", DeviceType: "pump-v2"}},
	}
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("password", "secret-secret\n")
	for i, text := range keys {
		o.Keys.Keys = append(o.Keys.Keys, write(strings.Repeat("k", i+1)+".pub", text))
	}
	return o
}

// What is wrong with keys is said with the file and what to do, before anything runs.
func TestImageKeysOfABridge(t *testing.T) {
	key := func() string {
		k, err := trust.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		return string(k.Public().File())
	}
	one, two := key(), key()
	for name, c := range map[string]struct {
		keys   []string
		change func(o *BridgeOptions)
		want   string // part of the error
	}{
		"one":               {keys: []string{one}},
		"two of two":        {keys: []string{one, two}, change: func(o *BridgeOptions) { o.Keys.Threshold = 2 }},
		"three of two":      {keys: []string{one, two}, change: func(o *BridgeOptions) { o.Keys.Threshold = 3 }, want: "threshold is 3 with 2 keys"},
		"twice the same":    {keys: []string{one, one}, want: "name each once"},
		"no key":            {keys: []string{"hello"}, want: "k.pub: this is no minisign public key"},
		"a long file":       {keys: []string{strings.Repeat("A", 1<<20)}, want: "k.pub has more than 4096 bytes"},
		"no file":           {keys: []string{one}, change: func(o *BridgeOptions) { o.Keys.Keys[0] += "x" }, want: "neither a minisign public key nor a file with one"},
		"no device type":    {keys: []string{one}, change: func(o *BridgeOptions) { o.Ports[0].DeviceType = "" }, want: "add device-type=TYPE to the port"},
		"required, no keys": {change: func(o *BridgeOptions) { o.Given = func(f string) bool { return f == "require-signature" } }, want: "name them with --image-keys"},
		"threshold, no key": {change: func(o *BridgeOptions) { o.Keys.Threshold = 1 }, want: "stands with --image-keys"},
	} {
		t.Run(name, func(t *testing.T) {
			o := signedOptions(t, c.keys...)
			o.Log = slog.New(slog.DiscardHandler)
			if c.change != nil {
				c.change(&o)
			}
			b, err := NewBridge(o)
			if err == nil {
				err = b.Close()
			}
			if got := err != nil; got != (c.want != "") || got && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// Key lists are read with the signatures beside them, and followed from the root keys on.
func TestKeyListsOfABridge(t *testing.T) {
	newKey := func() trust.PrivateKey {
		k, err := trust.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	root, other, images := newKey(), newKey(), newKey()
	now := trust.Moment(time.Now())
	list := trust.KeyList{
		Version: 3, Created: now, Expires: now.Add(time.Hour), RootThreshold: 1, ImagesThreshold: 1,
		Keys: []trust.ListedKey{{Key: root.Public(), Role: trust.RoleRoot}, {Key: images.Public(), Role: trust.RoleImages}},
	}
	text, err := list.Encode()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := root.Sign(text, "")
	if err != nil {
		t.Fatal(err)
	}
	options := func() BridgeOptions {
		o := signedOptions(t, string(root.Public().File()), string(other.Public().File()))
		o.Keys.Roots, o.Keys.Keys = o.Keys.Keys[:1], nil
		list := filepath.Join(filepath.Dir(o.Data), "keys.json")
		for name, b := range map[string][]byte{list: text, list + ".minisig": trust.EncodeSignatures([]trust.Signature{signature})} {
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		o.Keys.Lists = []string{list}
		return o
	}
	for name, c := range map[string]struct {
		change func(o *BridgeOptions)
		want   string // part of the error
	}{
		"good":          {change: func(*BridgeOptions) {}},
		"another root":  {change: func(o *BridgeOptions) { o.Keys.Roots[0] = filepath.Join(filepath.Dir(o.Data), "kk.pub") }, want: "not trusted here"},
		"no signatures": {change: func(o *BridgeOptions) { _ = os.Remove(o.Keys.Lists[0] + ".minisig") }, want: "it has no signatures; they have to be in"},
		"no root keys":  {change: func(o *BridgeOptions) { o.Keys.Roots = nil }, want: "a key list alone proves nothing"},
		"both":          {change: func(o *BridgeOptions) { o.Keys.Keys = o.Keys.Roots }, want: "not both"},
		"twice":         {change: func(o *BridgeOptions) { o.Keys.Lists = append(o.Keys.Lists, o.Keys.Lists[0]) }, want: "only a newer one replaces it"},
		"roots alone":   {change: func(o *BridgeOptions) { o.Keys.Lists = nil }, want: "stand with --key-list"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options()
			c.change(&o)
			err := o.Validate()
			var got bridge.Trust
			if err == nil {
				got, err = o.trusted()
			}
			if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			if err == nil && got.Ring.Version() != 3 {
				t.Errorf("version %d is in force", got.Ring.Version())
			}
		})
	}
}
