package app

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"davit/internal/signtest"
	"davit/trust"
)

// replaceFile puts a file in place by renaming, as operators are told to.
func replaceFile(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// putList writes a key list and its signatures.
func putList(t *testing.T, file string, s trust.Signed) {
	t.Helper()
	replaceFile(t, file+".minisig", s.Signatures)
	replaceFile(t, file, s.Text)
}

// TestKeysOfTheServiceAreReadAgain: a running service takes a new key list, keeps the last
// good one while files are broken, and takes no older one, over a restart either; other root
// keys are the way out.
func TestKeysOfTheServiceAreReadAgain(t *testing.T) {
	root, other, a, b := signtest.Key(t), signtest.Key(t), signtest.Key(t), signtest.Key(t)
	list := filepath.Join(t.TempDir(), "keys.json")
	first := signtest.SignList(t, signtest.List(1, root, a), root)
	second := signtest.SignList(t, signtest.List(2, root, b), root)
	putList(t, list, first)
	var said bytes.Buffer
	o := testOptions(t, t.TempDir())
	o.Log = slog.New(slog.NewTextHandler(&said, nil))
	o.Keys.Lists, o.Keys.Roots = []string{list}, []string{root.Public().String()}
	open := func() (*Server, error) {
		s, err := NewServer(o)
		if err == nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	}
	s, err := open()
	if err != nil {
		t.Fatal(err)
	}
	look := func(good float64, words ...string) {
		t.Helper()
		said.Reset()
		s.files.look()
		if got := testutil.ToFloat64(s.files.usable.WithLabelValues(followedKeys)); got != good {
			t.Errorf("usable is %v, want %v: %s", got, good, said.String())
		}
		for _, w := range words {
			if !strings.Contains(said.String(), w) {
				t.Errorf("said %q, want %q", said.String(), w)
			}
		}
		if len(words) == 0 && said.Len() > 0 {
			t.Errorf("said %s", said.String())
		}
	}
	look(1)
	putList(t, list, second)
	look(1, "image keys are in force", "key_list=2")
	look(1)
	replaceFile(t, list, []byte("{"))
	look(0, "cannot be used", list, "stays in force")
	look(0) // said once
	putList(t, list, first)
	look(0, "version 1, and version 2 was accepted")
	putList(t, list, second)
	look(1, "key_list=2")
	if n := testutil.ToFloat64(s.files.reloads.WithLabelValues(followedKeys, "failed")); n != 2 {
		t.Errorf("%v reloads failed", n)
	}
	putList(t, list, first)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(); !errors.Is(err, trust.ErrKeyListRollback) {
		t.Errorf("an older list after a restart: %v", err)
	}
	o.Keys.Roots = []string{other.Public().String()}
	putList(t, list, signtest.SignList(t, signtest.List(1, other, a), other))
	if _, err = open(); err != nil {
		t.Errorf("other root keys: %v", err)
	}
}

// Image keys that are named one by one are followed as well, and cannot all go.
func TestImageKeysAreReadAgain(t *testing.T) {
	a, b := signtest.Key(t), signtest.Key(t)
	file := filepath.Join(t.TempDir(), "a.pub")
	replaceFile(t, file, a.Public().File())
	o := testOptions(t, t.TempDir())
	o.Log = slog.New(slog.DiscardHandler)
	o.Keys.Keys = []string{file}
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct {
		data []byte
		good float64
	}{{b.Public().File(), 1}, {nil, 0}, {a.Public().File(), 1}} {
		replaceFile(t, file, c.data)
		s.files.look()
		if got := testutil.ToFloat64(s.files.usable.WithLabelValues(followedKeys)); got != c.good {
			t.Errorf("with %q usable is %v", c.data, got)
		}
	}
}

// TestCertificateOfTheServiceIsReadAgain: connections that begin after the files have changed
// are shown the new certificate, on every listener over TLS; a key that is another's changes nothing.
func TestCertificateOfTheServiceIsReadAgain(t *testing.T) {
	cert, key := certificate(t)
	o := testOptions(t, t.TempDir())
	o.Log = slog.New(slog.DiscardHandler)
	o.TLSCert, o.TLSKey, o.MQTTS, o.HTTPS = cert, key, "127.0.0.1:0", "127.0.0.1:0"
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.files.interval = time.Millisecond
	runTask(t, s)
	<-s.Ready()
	shown := func(addr string) string {
		t.Helper()
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}) // what is shown is looked at, not believed
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return string(conn.ConnectionState().PeerCertificates[0].Raw)
	}
	listeners := []string{s.Addresses().MQTTS, s.Addresses().HTTPS}
	first := shown(listeners[0])
	newCert, newKey := certificate(t)
	certPEM, err := os.ReadFile(newCert)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := os.ReadFile(newKey)
	if err != nil {
		t.Fatal(err)
	}
	await := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(patience); !done(); {
			if time.Now().After(end) {
				t.Fatalf("%s does not come about", what)
			}
		}
	}
	replaceFile(t, cert, certPEM) // between the two files they do not belong together
	await("a failed reload", func() bool { return testutil.ToFloat64(s.files.usable.WithLabelValues(followedCertificate)) == 0 })
	for _, addr := range listeners {
		if shown(addr) != first {
			t.Error("a certificate is shown of which there is no key")
		}
	}
	replaceFile(t, key, keyPEM)
	for _, addr := range listeners {
		await("the new certificate", func() bool { return shown(addr) != first })
	}
	if testutil.ToFloat64(s.files.usable.WithLabelValues(followedCertificate)) != 1 {
		t.Error("the reload counts as failed")
	}
}
