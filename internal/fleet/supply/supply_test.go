package supply

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"davit/internal/fleet"
)

func TestLoginsRoundTrip(t *testing.T) {
	want := []fleet.Login{{ID: "sim-ab-00001", Password: "p,\"1"}, {ID: "sim-ab-00002", Password: "p2"}}
	var b bytes.Buffer
	if err := WriteLogins(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadLogins(&b)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if p := Prefix(got); p != "sim-ab-" || id(p, 2) != want[1].ID {
		t.Errorf("prefix %q", p)
	}
}

// TestPrefixWithDigits: what a prefix ends with may be digits.
func TestPrefixWithDigits(t *testing.T) {
	for _, prefix := range []string{"sim-ab-", "lab2", "7", ""} {
		if got := Prefix([]fleet.Login{{ID: id(prefix, 1)}}); got != prefix {
			t.Errorf("%q is taken for %q", prefix, got)
		}
	}
	if got := Prefix([]fleet.Login{{ID: "box-17"}}); got != "box-" {
		t.Errorf("got %q", got)
	}
}

func TestFilesThatAreNone(t *testing.T) {
	for content, want := range map[string]string{
		"":                                   "it is empty; the first line has to be username,password",
		"user,pass\n":                        `the first line is "user,pass"; it has to be username,password`,
		"username,password\n":                "it has no device: one line for each follows the first",
		"username,password\na/b,x\n":         `line 2: malformed id: '/' at position 2 of "a/b"; allowed are A-Z a-z 0-9 . _ -`,
		"username,password\na,x\nb,x\na,y\n": `line 4: "a" stands twice`,
		"username,password\na,x,y\n":         "record on line 2: wrong number of fields",
	} {
		if _, err := ReadLogins(strings.NewReader(content)); err == nil || err.Error() != want {
			t.Errorf("%q:\ngot  %v\nwant %s", content, err, want)
		}
	}
}
