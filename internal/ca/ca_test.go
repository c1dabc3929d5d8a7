package ca

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"davit/internal/durable"
)

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func authority(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	if err := Init(dir, New{}, now); err != nil {
		t.Fatal(err)
	}
	return dir
}

func parse(t testing.TB, file string) *x509.Certificate {
	t.Helper()
	return must(decode(must(os.ReadFile(file))(t), "CERTIFICATE", x509.ParseCertificate))(t)
}

func readCRL(t testing.TB, dir string) *x509.RevocationList {
	t.Helper()
	list := must(decode(must(os.ReadFile(filepath.Join(dir, CRLFile)))(t), "X509 CRL", x509.ParseRevocationList))(t)
	if err := list.CheckSignatureFrom(parse(t, filepath.Join(dir, CertificateFile))); err != nil {
		t.Error(err)
	}
	return list
}

func TestIssued(t *testing.T) {
	dir := authority(t)
	roots := x509.NewCertPool()
	roots.AddCert(parse(t, filepath.Join(dir, CertificateFile)))
	for _, c := range []struct {
		request Request
		usage   x509.ExtKeyUsage
		uri     string
		dns, ip string
	}{
		{Request{Kind: Device, Name: "pump-1"}, x509.ExtKeyUsageClientAuth, "davit:device:pump-1", "", ""},
		{Request{Kind: Bridge, Name: "gw", Days: 10}, x509.ExtKeyUsageClientAuth, "davit:bridge:gw", "", ""},
		{Request{Kind: Server, Name: "davit.example.com,192.0.2.7"}, x509.ExtKeyUsageServerAuth, "", "davit.example.com", "192.0.2.7"},
		{Request{Kind: Server, Name: "*.example.com"}, x509.ExtKeyUsageServerAuth, "", "a.example.com", ""},
	} {
		made := must(Issue(dir, c.request, now))(t)
		if _, err := tls.LoadX509KeyPair(made.Certificate, made.Key); err != nil {
			t.Error(err)
		}
		if mode := must(os.Stat(made.Key))(t).Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o", made.Key, mode)
		}
		cert := parse(t, made.Certificate)
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
			_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}, DNSName: ""})
			if (err == nil) != (usage == c.usage) {
				t.Errorf("%s used as %d: %v", made.Name, usage, err)
			}
		}
		var uri string
		if len(cert.URIs) > 0 {
			uri = cert.URIs[0].String()
		}
		if uri != c.uri || len(cert.URIs) > 1 {
			t.Errorf("%s: URIs %v, want %s", made.Name, cert.URIs, c.uri)
		}
		for _, host := range []string{c.dns, c.ip} {
			if host != "" && cert.VerifyHostname(host) != nil {
				t.Errorf("%s: %v", made.Name, cert.VerifyHostname(host))
			}
		}
		days := c.request.Days
		if days == 0 {
			days = DefaultIssuedDays
		}
		if want := now.Add(time.Duration(days) * day); !cert.NotAfter.Equal(want) || cert.IsCA {
			t.Errorf("%s ends %s, want %s; an authority: %v", made.Name, cert.NotAfter, want, cert.IsCA)
		}
	}
	if mode := must(os.Stat(filepath.Join(dir, KeyFile)))(t).Mode().Perm(); mode != 0o600 {
		t.Errorf("the authority's key has mode %o", mode)
	}
	// Nothing outlives the authority.
	made := must(Issue(dir, Request{Kind: Device, Name: "late", Days: 9999}, now))(t)
	if root := parse(t, filepath.Join(dir, CertificateFile)); !made.NotAfter.Equal(root.NotAfter) {
		t.Errorf("ends %s, the authority %s", made.NotAfter, root.NotAfter)
	}
	if _, err := Issue(dir, Request{Kind: Device, Name: "later"}, now.Add(20*365*day)); err == nil || !strings.Contains(err.Error(), "ended at") {
		t.Errorf("issued by an authority that has ended: %v", err)
	}
}

func TestRefused(t *testing.T) {
	dir := authority(t)
	for want, r := range map[string]Request{
		"malformed id":              {Kind: Device, Name: "a b"},
		"no kind of certificate":    {Kind: "root", Name: "x"},
		"neither a host name":       {Kind: Server, Name: "ok,bad_name"},
		`"" is neither`:             {Kind: Server, Name: ""},
		"allowed are 1 to":          {Kind: Device, Name: "x", Days: maxDays + 1},
		`"../../x" is neither`:      {Kind: Server, Name: "../../x"},
		"\"..\" is a path, not a n": {Kind: Bridge, Name: ".."},
	} {
		if _, err := Issue(dir, r, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", r, err, want)
		}
	}
	if all := must(List(dir))(t); len(all) != 0 {
		t.Errorf("issued all the same: %+v", all)
	}
	if err := Init(dir, New{}, now); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second authority: %v", err)
	}
	if _, err := List(t.TempDir()); err == nil || !strings.Contains(err.Error(), "davit ca init") {
		t.Errorf("no authority: %v", err)
	}
}

func TestRevoke(t *testing.T) {
	dir := authority(t)
	if n := len(readCRL(t, dir).RevokedCertificateEntries); n != 0 {
		t.Fatalf("a new list has %d entries", n)
	}
	one := must(Issue(dir, Request{Kind: Device, Name: "d"}, now))(t)
	two := must(Issue(dir, Request{Kind: Device, Name: "d"}, now))(t)
	other := must(Issue(dir, Request{Kind: Bridge, Name: "d"}, now))(t)
	if got := must(Revoke(dir, Selection{Kind: Device, Name: "d"}, "key-compromise", now))(t); len(got) != 2 {
		t.Errorf("revoked %+v", got)
	}
	serials := func() (all []string) {
		for _, e := range readCRL(t, dir).RevokedCertificateEntries {
			all = append(all, e.SerialNumber.Text(16))
		}
		return all
	}
	if got := serials(); !slices.Equal(got, []string{one.Serial, two.Serial}) {
		t.Errorf("the list has %v", got)
	}
	if got := readCRL(t, dir).RevokedCertificateEntries[0].ReasonCode; got != 1 {
		t.Errorf("reason %d", got)
	}
	// By serial number, however it is written.
	if got := must(Revoke(dir, Selection{Serial: "00" + strings.ToUpper(other.Serial)}, "", now))(t); len(got) != 1 {
		t.Errorf("revoked %+v", got)
	}
	if got := must(Revoke(dir, Selection{Serial: other.Serial}, "", now))(t); len(got) != 0 {
		t.Errorf("revoked again: %+v", got)
	}
	if got := serials(); len(got) != 3 {
		t.Errorf("the list has %v", got)
	}
	for _, s := range []Selection{{Serial: "12"}, {Serial: "0"}, {}, {Kind: Device, Name: "other"}} {
		if _, err := Revoke(dir, s, "", now); err == nil {
			t.Errorf("%+v is revoked", s)
		}
	}
	// A list is numbered, ends, and forgets those that ended long ago.
	before := readCRL(t, dir)
	later := now.Add(2 * DefaultIssuedDays * day)
	end := must(WriteCRL(dir, later))(t)
	after := readCRL(t, dir)
	if after.Number.Cmp(before.Number) <= 0 || !after.NextUpdate.Equal(end) || !end.Equal(later.Add(DefaultCRLDays*day)) || len(after.RevokedCertificateEntries) != 0 {
		t.Errorf("list %v until %s with %d entries, said until %s", after.Number, after.NextUpdate, len(after.RevokedCertificateEntries), end)
	}
}

// Two processes at once: one is told of the other, and nothing is lost.
func TestLocked(t *testing.T) {
	dir := authority(t)
	lock := must(durable.Lock(dir, "davit ca"))(t)
	if _, err := Issue(dir, Request{Kind: Device, Name: "d"}, now); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("a folder in use: %v", err)
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	const many = 8
	errs := make(chan error)
	for range many {
		go func() {
			_, err := Issue(dir, Request{Kind: Device, Name: "d"}, now)
			errs <- err
		}()
	}
	made := 0
	for range many {
		if err := <-errs; err == nil {
			made++
		} else if !errors.Is(err, durable.ErrLocked) {
			t.Error(err)
		}
	}
	if all := must(List(dir))(t); len(all) != made || made == 0 {
		t.Errorf("%d were issued, the index has %d", made, len(all))
	}
}

// An interrupted Init leaves no authority and may be repeated; a folder whose parts do not
// belong together is refused.
func TestHalfAFolder(t *testing.T) {
	dir := authority(t)
	if err := os.Remove(filepath.Join(dir, CertificateFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := List(dir); err == nil || !strings.Contains(err.Error(), "holds no certificate authority") {
		t.Errorf("without a certificate: %v", err)
	}
	if err := Init(dir, New{}, now); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string][]byte{
		KeyFile:         must(os.ReadFile(filepath.Join(authority(t), KeyFile)))(t),
		CertificateFile: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}),
		IndexFile:       []byte("{"),
	} {
		good := must(os.ReadFile(filepath.Join(dir, name)))(t)
		for _, bad := range [][]byte{spoil, nil, []byte(`{"version":7}`)} {
			if err := os.WriteFile(filepath.Join(dir, name), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Issue(dir, Request{Kind: Device, Name: "d"}, now); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is %q: %v", name, bad, err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must(Issue(dir, Request{Kind: Device, Name: "d"}, now))(t)
}
