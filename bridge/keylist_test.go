package bridge

import (
	"errors"
	"path/filepath"
	"testing"

	"davit/bridge/dialect"
	"davit/bridge/dialect/ayla"
	"davit/internal/keystate"
	"davit/internal/signtest"
	"davit/trust"
)

// TestKeyListOverARestart: what key list was in force is remembered, also of one that came
// while the bridge ran; an older one is refused at the start, and other root keys are the way out.
func TestKeyListOverARestart(t *testing.T) {
	root, other, key := signtest.Key(t), signtest.Key(t), signtest.Key(t)
	ring := func(version uint64, root trust.PrivateKey) Trust {
		return Trust{Ring: signtest.Ring(t, signtest.List(version, root, key), root)}
	}
	inSignedWorld(t, 20_000, func(w *signedWorld) {
		for _, version := range []uint64{1, 3} {
			if _, err := w.bridge.Reconfigure(w.Context(), Settings{Ports: w.cfg.Ports, Trust: ring(version, root)}); err != nil {
				t.Fatal(err)
			}
		}
		file := keystate.File(filepath.Join(w.cfg.DataDir, "keylist.json"))
		if err := file.Accept(ring(2, root).Ring); !errors.Is(err, trust.ErrKeyListRollback) {
			t.Errorf("version 3 is not remembered: %v", err)
		}
	})
	dir := t.TempDir()
	start := func(trusted Trust) error {
		b, err := New(Config{
			DataDir: dir, Transport: newService(t), Dialects: map[string]dialect.Dialect{ayla.Name: ayla.Dialect{}},
			Ports: []PortConfig{{Device: pump, Path: "/dev/null", Dialect: ayla.Name, DeviceType: theType}}, Trust: trusted,
		})
		if err != nil {
			return err
		}
		return b.Close()
	}
	for _, s := range []struct {
		what    string
		trusted Trust
		ok      bool
	}{
		{"version 2", ring(2, root), true},
		{"version 1", ring(1, root), false}, {"version 3", ring(3, root), true}, {"no list", Trust{}, true},
		{"version 2 after that", ring(2, root), false}, {"other roots", ring(1, other), true},
	} {
		err := start(s.trusted)
		if (err == nil) != s.ok || err != nil && !errors.Is(err, trust.ErrKeyListRollback) {
			t.Errorf("%s: %v", s.what, err)
		}
	}
}
