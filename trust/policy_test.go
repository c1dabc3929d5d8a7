package trust

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestPolicyAccepts(t *testing.T) {
	image := randomImage(3000)
	m, key := build(t, image, terms()), newKey(t)
	s := sign(t, encode(t, m), key)
	policy := policyFor(m, key)
	for name, change := range map[string]func(*Policy){
		"as it is":             func(*Policy) {},
		"an equal counter":     func(p *Policy) { p.Counter = 7 },
		"a lower counter":      func(p *Policy) { p.Counter = 0 },
		"the other type":       func(p *Policy) { p.DeviceType = "heater" },
		"just before the end":  func(p *Policy) { p.Now = ends.Add(-time.Nanosecond) },
		"a clock that is late": func(p *Policy) { p.Now = made.Add(-23 * time.Hour) },
		"in another zone":      func(p *Policy) { p.Now = today.In(time.FixedZone("x", 7*3600)) },
		"exactly its size":     func(p *Policy) { p.MaxSize = 3000 },
	} {
		t.Run(name, func(t *testing.T) {
			p := policy
			change(&p)
			v, err := p.Check(s)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(v.Manifest(), *m) || v.Size() != 3000 || v.SHA256() != m.SHA256 || v.Blocks() != 3 || v.BlockSize() != MinBlockSize {
				t.Errorf("verified %+v, want %+v", v.Manifest(), m)
			}
			if by := v.SignedBy(); len(by) != 1 || by[0] != key.Public() {
				t.Errorf("signed by %v", by)
			}
			// What is handed out cannot be used to change what was verified.
			v.Manifest().DeviceTypes[0] = "other"
			if v.Manifest().DeviceTypes[0] != "heater" {
				t.Error("a verified manifest was changed")
			}
		})
	}
}

func TestPolicyRefuses(t *testing.T) {
	m, key := build(t, randomImage(3000), terms()), newKey(t)
	s := sign(t, encode(t, m), key)
	other := build(t, randomImage(3001)[1:], terms()) // as large, and for the same version
	for name, c := range map[string]struct {
		change func(*Policy)
		want   Reason
		says   string
	}{
		"no keys":                {func(p *Policy) { p.Pinned = KeySet{} }, ErrPolicy, "pin"},
		"no threshold":           {func(p *Policy) { p.Pinned.Threshold = 0 }, ErrPolicy, "threshold"},
		"two kinds of keys":      {func(p *Policy) { p.Ring = &KeyRing{} }, ErrPolicy, "decide"},
		"a key list of nothing":  {func(p *Policy) { p.Pinned, p.Ring = KeySet{}, &KeyRing{} }, ErrKeyListExpired, "newer list"},
		"no device type":         {func(p *Policy) { p.DeviceType = "" }, ErrPolicy, "type"},
		"no time":                {func(p *Policy) { p.Now = time.Time{} }, ErrPolicy, "time"},
		"nothing offered":        {func(p *Policy) { p.Offered = Offered{} }, ErrPolicy, "not described"},
		"no size":                {func(p *Policy) { p.Offered.Size = 0 }, ErrPolicy, "size"},
		"no hash":                {func(p *Policy) { p.Offered.SHA256 = "" }, ErrPolicy, "SHA-256"},
		"another device type":    {func(p *Policy) { p.DeviceType = "valve" }, ErrDeviceType, "heater, pump"},
		"a part of its name":     {func(p *Policy) { p.DeviceType = "pum" }, ErrDeviceType, "pum"},
		"another image type":     {func(p *Policy) { p.Offered.ImageType = "radio" }, ErrImageType, "radio"},
		"another version":        {func(p *Policy) { p.Offered.Version = "2.1" }, ErrMismatch, `"2.1"`},
		"another size":           {func(p *Policy) { p.Offered.Size++ }, ErrMismatch, "3001"},
		"another image":          {func(p *Policy) { p.Offered.SHA256 = other.SHA256 }, ErrMismatch, other.SHA256},
		"a hash in large":        {func(p *Policy) { p.Offered.SHA256 = strings.ToUpper(m.SHA256) }, ErrMismatch, m.SHA256},
		"too large":              {func(p *Policy) { p.MaxSize = 2999 }, ErrTooLarge, "2999"},
		"an older counter":       {func(p *Policy) { p.Counter = 8 }, ErrRollback, "counter 8"},
		"a much older one":       {func(p *Policy) { p.Counter = MaxCounter }, ErrRollback, "9007199254740991"},
		"at its end":             {func(p *Policy) { p.Now = ends }, ErrExpired, "2027-11-01"},
		"after its end":          {func(p *Policy) { p.Now = ends.AddDate(1, 0, 0) }, ErrExpired, "sign the image anew"},
		"a clock far behind":     {func(p *Policy) { p.Now = time.Unix(0, 0) }, ErrNotYetValid, "set the clock"},
		"an untrusted key":       {func(p *Policy) { p.Pinned.Keys = publics(newKey(t)) }, ErrUnknownKey, key.Public().ID.String()},
		"a threshold over these": {func(p *Policy) { p.Pinned = KeySet{publics(key, newKey(t)), 2} }, ErrThreshold, "1 of 2"},
	} {
		t.Run(name, func(t *testing.T) {
			p := policyFor(m, key)
			c.change(&p)
			v, err := p.Check(s)
			refused(t, err, c.want)
			if v != nil {
				t.Error("verified all the same")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("it does not say %q: %v", c.says, err)
			}
		})
	}
}

// TestMixAndMatch: two good manifests with each other's texts, signatures and
// offers.
func TestMixAndMatch(t *testing.T) {
	key := newKey(t)
	newer := terms()
	newer.Version, newer.Counter = "3.0.0", 9
	a, b := build(t, randomImage(3000), terms()), build(t, randomImage(3001)[1:], newer)
	sa, sb := sign(t, encode(t, a), key), sign(t, encode(t, b), key)
	va, err := policyFor(a, key).Check(sa)
	if err != nil {
		t.Fatal(err)
	}
	vb, err := policyFor(b, key).Check(sb)
	if err != nil {
		t.Fatal(err)
	}
	if va.Digest() == vb.Digest() {
		t.Error("two manifests have one digest")
	}
	_, err = policyFor(a, key).Check(Signed{sa.Text, sb.Signatures})
	refused(t, err, ErrBadSignature)
	_, err = policyFor(a, key).Check(sb)
	refused(t, err, ErrMismatch)
	// The new manifest's hash in an offer with the old one's version, and the reverse.
	p := policyFor(b, key)
	p.Offered.Version = a.Version
	_, err = p.Check(sb)
	refused(t, err, ErrMismatch)
	p = policyFor(b, key)
	p.Offered.SHA256 = a.SHA256
	_, err = p.Check(sb)
	refused(t, err, ErrMismatch)
	// A key list in place of a manifest, with the right key.
	_, err = policyFor(a, key).Check(sign(t, encode(t, listOf(1, []PrivateKey{key}, nil)), key))
	refused(t, err, ErrMalformed)
}

func TestPolicyWithKeyList(t *testing.T) {
	k := newKeys(t, 6)
	l := listOf(1, k[:1], k[1:5])
	l.ImagesThreshold = 2
	l.Revoked = publics(k[5])
	for i, key := range l.Keys {
		switch key.Key {
		case k[3].Public():
			l.Keys[i].DeviceTypes = []string{"pump"}
		case k[4].Public():
			l.Keys[i].DeviceTypes = []string{"valve"}
		}
	}
	ring, err := Follow(KeySet{publics(k[0]), 1}, sign(t, encode(t, l), k[0]))
	if err != nil {
		t.Fatal(err)
	}
	terms := terms()
	terms.DeviceTypes = []string{"heater", "pump", "valve"}
	m := build(t, randomImage(3000), terms)
	policy := policyFor(m)
	policy.Pinned, policy.Ring = KeySet{}, ring
	for name, c := range map[string]struct {
		device string
		by     []PrivateKey
		want   Reason
	}{
		"two for all":                    {"pump", k[1:3], ""},
		"one for all, one for the type":  {"pump", []PrivateKey{k[1], k[3]}, ""},
		"one for another type":           {"heater", []PrivateKey{k[1], k[3]}, ErrThreshold},
		"only keys for other types":      {"heater", k[3:5], ErrKeyScope},
		"one":                            {"pump", k[1:2], ErrThreshold},
		"one, twice":                     {"pump", []PrivateKey{k[1], k[1]}, ErrThreshold},
		"a root key":                     {"pump", k[:1], ErrKeyScope},
		"a root key beside an image key": {"pump", k[:2], ErrThreshold},
		"a revoked key":                  {"pump", k[5:], ErrRevokedKey},
		"a revoked key beside a good":    {"pump", []PrivateKey{k[1], k[5]}, ErrThreshold},
		"a stranger":                     {"pump", []PrivateKey{newKey(t)}, ErrUnknownKey},
	} {
		t.Run(name, func(t *testing.T) {
			p := policy
			p.DeviceType = c.device
			v, err := p.Check(sign(t, encode(t, m), c.by...))
			if c.want != "" {
				refused(t, err, c.want)
			} else if err != nil {
				t.Fatal(err)
			} else if len(v.SignedBy()) != 2 {
				t.Errorf("signed by %v", v.SignedBy())
			}
		})
	}
	signed := sign(t, encode(t, m), k[1:3]...)
	p := policy
	p.Now = ends
	_, err = p.Check(signed)
	refused(t, err, ErrKeyListExpired)
	p.Now = made.AddDate(0, 0, -2)
	_, err = p.Check(signed)
	refused(t, err, ErrNotYetValid)

	// An OEM that revokes all its image keys stops every update.
	none := listOf(2, k[:1], nil)
	none.Revoked = publics(k[1:]...)
	none.Sort()
	if p.Ring, err = ring.Next(sign(t, encode(t, none), k[0])); err != nil {
		t.Fatal(err)
	}
	p.Now = today
	_, err = p.Check(signed)
	refused(t, err, ErrThreshold)
}

// TestReasonsAreDistinct: they are the labels of a metric.
func TestReasonsAreDistinct(t *testing.T) {
	seen := map[Reason]bool{}
	for _, r := range Reasons() {
		if seen[r] || r == "" || strings.ToLower(string(r)) != r.Error() {
			t.Errorf("%q", r)
		}
		seen[r] = true
	}
}

// TestAdmitWithoutSignatures: what a manifest has to be about is held to the same rules
// where nobody can verify who signed it.
func TestAdmitWithoutSignatures(t *testing.T) {
	m, key := build(t, randomImage(3000), terms()), newKey(t)
	p := policyFor(m, key)
	if err := m.Admit("pump", p.Offered, today); err != nil {
		t.Fatal(err)
	}
	wrong := p.Offered
	wrong.Version = "9"
	refused(t, m.Admit("pump", wrong, today), ErrMismatch)
	wrong = p.Offered
	wrong.ImageType = "other"
	refused(t, m.Admit("pump", wrong, today), ErrImageType)
	refused(t, m.Admit("valve", p.Offered, today), ErrDeviceType)
	refused(t, m.Admit("pump", p.Offered, ends), ErrExpired)
	refused(t, m.Admit("pump", p.Offered, time.Unix(0, 0)), ErrNotYetValid)
}
