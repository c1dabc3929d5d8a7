package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mistake is a value that a setting cannot have, and part of what is said about it. Without a value any will do:
// a name, a folder, a text.
type mistake struct{ key, value, want string }

// serveMistakes has every setting of davit serve.
var serveMistakes = []mistake{
	{"api-rate", "-1", "cannot be negative"},
	{"broker", "http://127.0.0.1", "is not mqtt, mqtts"},
	{"broker-password-file", "", ""},
	{"broker-username", "", ""},
	{"clock-confirmed", "tomorrow", "write a day"},
	{"compact-free", "100", "write a share from"},
	{"connect-rate", "-1", "cannot be negative"},
	{"data", "", ""},
	{"drain", "-5s", "cannot be negative"},
	{"http", "nowhere", "is not HOST:PORT"},
	{"https", "127.0.0.1:80800", "there is no port"},
	{"image-keys", "", ""},
	{"image-keys-threshold", "300", "a whole number from"},
	{"keep-archived-images", "-1h", "write a duration"},
	{"keep-audit", "long", "write a duration"},
	{"keep-jobs", "1h", "it is at least"},
	{"key-list", "", ""},
	{"log-format", "xml", "it is auto, text or json"},
	{"log-level", "loud", "is not debug, info, warn or error"},
	{"max-image", "-1", "allowed are"},
	{"max-in-progress", "-1", "cannot be negative"},
	{"message-rate", "-1", "cannot be negative"},
	{"min-free", "-1", "cannot be negative"},
	{"module-credit", "1", "the least is"},
	{"mqtt", "'1883'", "is not HOST:PORT"},
	{"mqtts", "127.0.0.1:-1", "there is no port"},
	{"mqtts-client-auth", "perhaps", "it is require or allow"},
	{"mqtts-client-ca", "", ""},
	{"mqtts-client-crl", "", ""},
	{"oidc-client-id", "", ""},
	{"oidc-client-secret-file", "", ""},
	{"oidc-default-role", "king", "does not exist"},
	{"oidc-issuer", "http://id.example.com", "has to be https"},
	{"oidc-role", "[admin, x=root]", "is not of the form VALUE=ROLE"},
	{"oidc-role-claim", "", ""},
	{"passwords", "maybe", "it is auto, on or off"},
	{"pprof", "0.0.0.0:6060", "is not on loopback"},
	{"public-url", "davit", "is not of the form https"},
	{"reoffers", "-1", "cannot be negative"},
	{"root-keys", "", ""},
	{"root-keys-threshold", "-1", "a whole number from"},
	{"tls-cert", "", ""},
	{"tls-key", "", ""},
	{"total-credit", "1", "less than"},
	{"trace-endpoint", "grpc://x:4317", "should look like"},
	{"trace-ratio", "7", "a share from 0 to 1"},
	{"trusted-proxy", "[proxy, 10.0.0.0/8]", "is neither a network"},
	{"websocket", "x:y:z", "is not HOST:PORT"},
}

// bridgeMistakes has every setting of davit bridge.
var bridgeMistakes = []mistake{
	{"broker", "http://127.0.0.1", "is not mqtt, mqtts"},
	{"ca", "", ""},
	{"data", "", ""},
	{"defer", "1ms", "is not one of"},
	{"drain-timeout", "-5s", "write a time"},
	{"image-keys", "", ""},
	{"image-keys-threshold", "300", "1 to"},
	{"key-list", "", ""},
	{"log-format", "xml", "it is auto, text or json"},
	{"log-level", "loud", "is not debug, info, warn or error"},
	{"metrics", "'9100'", "is not HOST:PORT"},
	{"offer-interval", "soon", "write a time"},
	{"password-file", "", ""},
	{"ports", "[]", "is empty"},
	{"record", "", ""},
	{"require-signature", "perhaps", "write on or off"},
	{"root-keys", "", ""},
	{"root-keys-threshold", "0", "1 to"},
	{"rotate-password", "-1d", "write a duration"},
	{"tls-cert", "", ""},
	{"tls-key", "", ""},
	{"trace-endpoint", "grpc://x:4317", "should look like"},
	{"trace-ratio", "7", "a share from 0 to 1"},
	{"username", "", ""},
	{"window", "1", "are not 4096"},
}

// Every value that is wrong is told in one look, with its line, its column and what to do: all at once, beside a key
// that is not known, and each alone.
func TestEveryMistakeOfAFileIsTold(t *testing.T) {
	for command, all := range map[string][]mistake{forServe: serveMistakes, forBridge: bridgeMistakes} {
		check := checkServeFile
		if command == forBridge {
			check = checkBridgeFile
		}
		names := configuredCommands()[command].set.Names()
		var lines, want []string
		for _, m := range all {
			names = slices.DeleteFunc(names, func(n string) bool { return n == m.key })
			if m.value == "" {
				continue
			}
			lines = append(lines, m.key+": "+m.value)
			want = append(want, fmt.Sprintf(`(?m)^[^ ]*:%d:\d+: (OpenID Connect \()?%s\b.*%s`, len(lines), m.key, regexp.QuoteMeta(m.want)))
		}
		if len(names) > 0 {
			t.Errorf("%s: the table has no %q", command, names)
		}
		file := filepath.Join(t.TempDir(), "mistakes.yaml")
		said := func(lines ...string) string {
			if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err := check(file)
			return fmt.Sprint(err)
		}
		together, beside := said(lines...), said(append(slices.Clone(lines), "nonsense: 1")...)
		if !strings.Contains(beside, "nonsense is not known") {
			t.Errorf("%s: the unknown key is not told:\n%s", command, beside)
		}
		for i, w := range want {
			re := regexp.MustCompile(w)
			for kind, text := range map[string]string{"all": together, "beside an unknown key": beside} {
				if n := len(re.FindAllString(text, -1)); n != 1 {
					t.Errorf("%s, %s: %q is told %d times in\n%s", command, kind, lines[i], n, text)
				}
			}
			alone := regexp.MustCompile(strings.Replace(w, fmt.Sprintf(":%d:", i+1), ":1:", 1))
			if text := said(lines[i]); !alone.MatchString(text) {
				t.Errorf("%s, %s alone: %s", command, lines[i], text)
			}
		}
	}
}

// What does not go together is told beside what is wrong in itself, but not what only follows from that.
func TestMistakesThatFollowAreLeftOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "serve.yaml")
	for text, want := range map[string][]string{
		"tls-cert: a.pem\nreoffers: many\n":           {":1:1: tls-cert and tls-key belong together", ":2:11: reoffers is text"},
		"tls-cert: 5\ntls-key: a.pem\nreoffers: -1\n": {":1:11: tls-cert is a number", ":3:1: reoffers is -1; it cannot be negative"},
		"tls-cert: [\n": {"not YAML"},
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := checkServeFile(file)
		lines := strings.Split(fmt.Sprint(err), "\n")
		if len(lines) != len(want) {
			t.Errorf("%q: %v", text, err)
			continue
		}
		for i, w := range want {
			if !strings.Contains(lines[i], w) {
				t.Errorf("%q: line %d is %q, want %q", text, i, lines[i], w)
			}
		}
	}
}
