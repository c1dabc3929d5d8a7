package schemas

import (
	"errors"
	"strings"
	"testing"
)

func TestParseIdentity(t *testing.T) {
	for uri, want := range map[string]Identity{
		"davit:device:pump-1":                     {IdentityDevice, "pump-1"},
		"davit:bridge:gw.7_A":                     {IdentityBridge, "gw.7_A"},
		"davit:device:device":                     {IdentityDevice, "device"},
		"davit:bridge:" + strings.Repeat("x", 64): {IdentityBridge, strings.Repeat("x", 64)},
	} {
		got, err := ParseIdentity(uri)
		if err != nil || got != want || got.String() != uri {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
	for _, uri := range []string{
		"", "davit", "davit:", "davit:device", "davit:device:", "device:pump", "davit:service:x", "davit::x", "DAVIT:device:x", "davit:Device:x",
		"davit:device:pump:1", "davit:device:pump%2d1", "davit:device:pump 1", " davit:device:x", "davit:device:x ", "davit:device:x\x00", "davit://device:x",
		"davit:device:..", "davit:device:p\u0443mp", "davit:device:x#y", "davit:device:x?", "davit:device:$davit", "davit:davit:device:x",
		"davit:device:" + strings.Repeat("x", 65), "https://davit:device:x",
	} {
		if got, err := ParseIdentity(uri); !errors.Is(err, ErrIdentity) || got != (Identity{}) {
			t.Errorf("%q: %+v, %v", uri, got, err)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	for _, s := range []string{"davit:device:pump-1", "davit:bridge:gw", "davit:device:", "davit:device:a:b", "davit:device:a%00", "DAVIT:device:a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		i, err := ParseIdentity(uri)
		if err != nil {
			if i != (Identity{}) || !errors.Is(err, ErrIdentity) {
				t.Errorf("refused with %v, and still %+v", err, i)
			}
			return
		}
		if i.String() != uri || ValidateID(i.ID) != nil {
			t.Errorf("%q is read as %+v, which is written %q", uri, i, i.String())
		}
	})
}
