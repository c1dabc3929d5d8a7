package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		o.ImageKeys = append(o.ImageKeys, write(strings.Repeat("k", i+1)+".pub", text))
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
		"two of two":        {keys: []string{one, two}, change: func(o *BridgeOptions) { o.ImageKeysThreshold = 2 }},
		"three of two":      {keys: []string{one, two}, change: func(o *BridgeOptions) { o.ImageKeysThreshold = 3 }, want: "threshold is 3 with 2 keys"},
		"twice the same":    {keys: []string{one, one}, want: "name each once"},
		"no key":            {keys: []string{"hello"}, want: "k.pub: this is no minisign public key"},
		"a long file":       {keys: []string{strings.Repeat("A", 1<<20)}, want: "k.pub: a public key has"},
		"no file":           {keys: []string{one}, change: func(o *BridgeOptions) { o.ImageKeys[0] += "x" }, want: "read a key: open"},
		"no device type":    {keys: []string{one}, change: func(o *BridgeOptions) { o.Ports[0].DeviceType = "" }, want: "add device-type=TYPE to the port"},
		"required, no keys": {change: func(o *BridgeOptions) { o.Given = func(f string) bool { return f == "require-signature" } }, want: "name them with --image-keys"},
		"threshold, no key": {change: func(o *BridgeOptions) { o.ImageKeysThreshold = 1 }, want: "name them with --image-keys"},
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
