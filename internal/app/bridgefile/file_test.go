package bridgefile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"davit/bridge"
	"davit/internal/app/yamlfile"
	"davit/internal/signtest"
)

var twoDialects = []string{"ayla", "afero"}

// load reads a file of a bridge with both dialects.
func load(name string) (File, error) {
	f, _, err := Load(name, twoDialects, nil)
	return f, err
}

// The file that the documentation shows is one, and has every field in it.
func TestReferenceFile(t *testing.T) {
	const name = "../../../docs/bridge.yaml"
	f, err := load(name)
	if err != nil {
		t.Fatal(err)
	}
	on := true
	want := File{
		Broker: "mqtts://davit.example.com:8883", Username: "rack-1", PasswordFile: "../../../docs/rack-1.password", CA: "../../../docs/ca.pem", TLSCert: "../../../docs/rack-1.pem", TLSKey: "../../../docs/rack-1.key",
		Data: "/var/lib/davit-bridge", Metrics: "127.0.0.1:9464", Record: "../../../docs/recordings", LogLevel: "debug", LogFormat: "json", TraceEndpoint: "http://127.0.0.1:4318", TraceRatio: new(0.05), RotatePassword: 30 * 24 * time.Hour, OfferInterval: 90 * time.Second, Defer: 20 * time.Minute, DrainTimeout: new(45 * time.Second), Window: 1048576,
		Ports: []bridge.PortConfig{
			{Device: "pump-1", Path: "usb:0403:6001:A50285BI", DeviceType: "pump-v2"},
			{
				Device: "lamp-7", Path: "by-path:pci-0000:00:14.0-usb-0:1.4:1.0-port0", Dialect: "ayla", Baud: 115200, Parity: "odd", RTSCTS: &on,
				DeviceType: "lamp-v1", VersionProperty: "oem_host_version", LoadSize: 128,
			},
			{Device: "lamp-8", Path: "/dev/ttyUSB3", DeviceType: "lamp-v2", Dialect: "afero", AttributeSize: 510},
		},
		ImageKeys: []string{"../../../docs/oem-1.pub", "../../../docs/oem-2.pub"}, ImageKeysThreshold: 1, RequireSignature: &on,
		KeyLists: []string{"../../../docs/keys-1.json", "../../../docs/keys-2.json"}, RootKeys: []string{"../../../docs/root-1.pub", "../../../docs/root-2.pub"}, RootKeysThreshold: 2,
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("read %+v\nwant %+v", f, want)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{portsField, keysField, listsField, rootsField}
	for _, k := range plainFields() {
		names = append(names, k.name)
	}
	for _, k := range portFields() {
		names = append(names, k.name)
	}
	for _, n := range names {
		if !strings.Contains(string(b), n+": ") && !strings.Contains(string(b), "\n"+n+":\n") {
			t.Errorf("%s is not in it", n)
		}
	}
	// Whatever a File or a port can hold is there, so that a new field cannot be forgotten in the file or the list.
	for i := range reflect.TypeFor[File]().NumField() {
		if reflect.ValueOf(f).Field(i).IsZero() {
			t.Errorf("%s is not set by it", reflect.TypeFor[File]().Field(i).Name)
		}
	}
	for i := range reflect.TypeFor[bridge.PortConfig]().NumField() {
		set := false
		for _, p := range f.Ports {
			set = set || !reflect.ValueOf(p).Field(i).IsZero()
		}
		if !set {
			t.Errorf("no port sets %s", reflect.TypeFor[bridge.PortConfig]().Field(i).Name)
		}
	}
}

// A time of nothing needs no unit, as in the flag.
func TestTimeOfNothing(t *testing.T) {
	for _, text := range []string{"drain-timeout: 0\n", "drain-timeout: 0s\n"} {
		name := filepath.Join(t.TempDir(), "bridge.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := load(name); err != nil || f.DrainTimeout == nil || *f.DrainTimeout != 0 {
			t.Errorf("%q: %v, %v", text, f.DrainTimeout, err)
		}
	}
}

// onePort is a file with one port that has some more lines.
func onePort(lines ...string) string {
	return "ports:\n  - device: a\n    port: /dev/x\n    " + strings.Join(lines, "\n    ") + "\n"
}

func TestMistakes(t *testing.T) {
	tests := []struct {
		name, file string
		want       []string // without the file's name
	}{
		{"empty", "", []string{": the file is empty; docs/bridge.yaml is an example"}},
		{"blank", " \n\n", []string{": the file is empty; docs/bridge.yaml is an example"}},
		{"comments only", "# broker: x\n", []string{": the file is empty; docs/bridge.yaml is an example"}},
		{"a document without anything", "---\n", []string{": the file is empty; docs/bridge.yaml is an example"}},
		{"a word", "hello\n", []string{":1:1: this is text; the file has to begin with a setting such as broker: mqtt://HOST:1883; docs/bridge.yaml is an example"}},
		{"a list", "- broker: x\n", []string{":1:1: this is a list; the file has to begin with a setting such as broker: mqtt://HOST:1883; docs/bridge.yaml is an example"}},
		{"tabs", "ports:\n\t- device: a\n", []string{":2:1: this is not YAML: a tab cannot stand here; indent with spaces"}},
		{"indented badly", "ports:\n  - device: a\n   port: b\n", []string{":3:4: this is not YAML: value is not allowed in this context"}},
		{"a quote that does not end", "broker: \"x\nusername: y\n", []string{":1:9: this is not YAML: could not find end character of double-quoted text"}},
		{"no colon", "broker: x\nusername\ndata: d\n", []string{":2:1: this is not YAML: non-map value is specified"}},
		{"JSON that does not end", `{"broker": "x"`, []string{":1:1: this is not YAML: could not find flow mapping end token '}'"}},
		{"two documents", "broker: x\n---\nbroker: y\n", []string{":2:1: a second document begins here; a file has one"}},
		{"more after the end", "broker: x\n...\nbroker: y\n", []string{":3:1: the document has ended before this; a file has one"}},
		{"binary", "broker: x\nab\x00c\n", []string{":2:3: what stands here is a control character; is this a text file?"}},
		{"Latin-1", "broker: x\nusername: caf\xe9\n", []string{":2:14: what stands here is not UTF-8; is this a text file?"}},
		{"UTF-16", "\xff\xfeb\x00", []string{":1:1: this is UTF-16, as some editors and PowerShell write it; save the file as UTF-8"}},
		{"an anchor", "username: &a x\n", []string{":1:11: anchors, aliases and merges (&, *, <<) are not taken here; write the value out, in quotes if it begins so"}},
		{"an alias", "username: *a\n", []string{":1:11: anchors, aliases and merges (&, *, <<) are not taken here; write the value out, in quotes if it begins so"}},
		{"a merge", "<<: {a: b}\n", []string{":1:1: anchors, aliases and merges (&, *, <<) are not taken here; write the value out, in quotes if it begins so"}},
		{"a tag", "username: !!str x\n", []string{":1:11: tags (!) are not taken here; write the value alone, in quotes if it begins with !"}},
		{"a directive", "%YAML 1.2\n---\nbroker: x\n", []string{":1:1: directives (%) are not taken here; leave the line out"}},
		{"a long key", "? broker\n: x\n", []string{":1:1: a key cannot begin with ?; write key: value"}},
		{"a list in a list", "ports:\n  - - device: a\n", []string{":2:5: a list in a list is not taken here; write one - only"}},
		{"too deep", "ports: " + strings.Repeat("[", 60_000), []string{":1:16: there are too many [ or { within one another"}},
		{"too much in it", strings.Repeat("a: b\n", 5_000), []string{":2731:4: the file has more in it than a configuration can need"}},
		{"too long", "#" + strings.Repeat("x", yamlfile.MaxSize), []string{": the file is longer than 64 KiB; is it a bridge's configuration?"}},

		{"a key that is written badly", "brokre: x\nport:\n  - device: a\n", []string{
			":1:1: brokre is not known; did you mean broker?", ":2:1: port is not known; did you mean ports?",
		}},
		{"a key of nothing", "frequency: 1\n", []string{":1:1: frequency is not known; there are broker, ca, data, defer, drain-timeout, image-keys, image-keys-threshold, key-list, log-format, log-level, metrics, offer-interval, password-file, ports, record, require-signature, root-keys, root-keys-threshold, rotate-password, tls-cert, tls-key, trace-endpoint, trace-ratio, username, window"}},
		{"a key that cannot be printed", "\"a\\e[1m\": 1\n", []string{`:1:1: "a\x1b[1m" is not known; there are broker, ca, data, defer, drain-timeout, image-keys, image-keys-threshold, key-list, log-format, log-level, metrics, offer-interval, password-file, ports, record, require-signature, root-keys, root-keys-threshold, rotate-password, tls-cert, tls-key, trace-endpoint, trace-ratio, username, window`}},
		{"a key twice", "broker: x\nusername: u\nbroker: y\n", []string{":3:1: broker stands twice, first in line 1; take one of them out"}},
		{"no value", "broker:\nusername: ''\ndata: ~\n", []string{
			":1:1: broker has no value; give it one, or take the line out", ":2:11: username has no value; give it one, or take the line out",
			":3:1: data has no value; give it one, or take the line out",
		}},
		{"a number for text", "username: 12\ndata: 1.5\n", []string{
			`:1:11: username is a number; put it in quotes: username: "12"`, `:2:7: data is a number; put it in quotes: data: "1.5"`,
		}},
		{"a truth for text", "username: true\n", []string{`:1:11: username is a yes or no; put it in quotes: username: "true"`}},
		{"a group for text", "broker:\n  host: x\n", []string{":2:3: broker is a group of settings; write one value behind the colon"}},
		{"a list for text", "broker: [x]\n", []string{":1:9: broker is a list; write one value behind the colon"}},
		{"a block for text", "broker: |\n  x\n", []string{":1:9: broker is a block of text; write one value behind the colon"}},
		{"text that cannot be printed", "data: \"a\\nb\"\n", []string{`:1:7: data is "a\nb", with characters that cannot be printed; take them out`}},
		{"broker", "broker: http://x\n", []string{`:1:9: broker: "http://x": the scheme "http" is not mqtt, mqtts, ws or wss`}},
		{"metrics", "metrics: localhost\n", []string{`:1:10: metrics: "localhost" is not HOST:PORT: address localhost: missing port in address`}},
		{"offer-interval", "offer-interval: soon\n", []string{`:1:17: offer-interval is "soon"; write a time such as 90s or 2m`}},
		{"a negative offer-interval", "offer-interval: -1s\n", []string{`:1:17: offer-interval is "-1s"; write a time such as 90s or 2m`}},
		{"an offer-interval without a unit", "offer-interval: 90\n", []string{`:1:17: offer-interval is a number without a unit; write a time such as 90s or 2m`}},
		{"a key of the other program", "username: u\nmqtt: x\n", []string{":2:1: mqtt is a setting of davit serve, and this is a file of davit bridge; take it out"}},
		{"an age that is none", "rotate-password: old\n", []string{`:1:18: rotate-password is "old"; write a duration such as 12h or 30d`}},
		{"a log level", "log-level: loud\n", []string{`:1:12: log-level: log level "loud" is not debug, info, warn or error`}},
		{"a defer of nothing", "defer: 0\n", []string{`:1:8: defer: 0s is not one of 1s to 720h0m0s, in whole seconds`}},
		{"a defer that is too long", "defer: 721h\n", []string{`:1:8: defer: 721h0m0s is not one of 1s to 720h0m0s, in whole seconds`}},
		{"a window of one chunk", "window: 1024\n", []string{`:1:9: window: 1024 bytes are not 4096 to 134217728`}},
		{"a window in words", "window: much\n", []string{`:1:9: window is text; write a whole number, without quotes`}},
		{"a defer that is no time", "defer: later\n", []string{`:1:8: defer is "later"; write a time such as 90s or 2m`}},
		{"a drain-timeout with half a number", "drain-timeout: 1.5\n", []string{`:1:16: drain-timeout is a number without a unit; write a time such as 90s or 2m`}},

		{"image keys as text", "image-keys: a.pub\n", []string{":1:13: image-keys is text; write a list of files, each as - FILE"}},
		{"no image keys", "image-keys: []\n", []string{":1:13: image-keys has 0 entries, allowed are 1 to 64; leave it out for none"}},
		{"no image has to be signed", "image-keys-threshold: 0\n", []string{`:1:23: image-keys-threshold is "0"; write how many of the keys have to sign, 1 to 64`}},
		{"ports as text", "ports: pump=/dev/x\n", []string{":1:8: ports is text; write a list, where each port begins with - device:"}},
		{"ports as a group", "ports:\n  device: a\n  port: b\n", []string{":2:3: ports is a group of settings; write a list, where each port begins with - device:"}},
		{"ports without a value", "ports:\n", []string{":1:1: ports has no value; give it one, or take the line out"}},
		{"no ports", "ports: []\n", []string{":1:8: ports is empty; a bridge needs at least one port, or leave it out and name them with --port"}},
		{"a port as with --port", "ports:\n  - pump-1=/dev/x\n", []string{":2:5: ports[0] is text; write device: and port: for each entry of the list, under each other"}},
		{"a port of nothing", "ports:\n  - {}\n", []string{":2:5: ports[0] has no device; add a line device: ID under it", ":2:5: ports[0] has no port; add a line port: PATH under it"}},
		{"no device", "ports:\n  - port: /dev/x\n", []string{":2:5: ports[0] has no device; add a line device: ID under it"}},
		{"no port", "ports:\n  - device: a\n    baud: 9600\n", []string{":2:5: ports[0] has no port; add a line port: PATH under it"}},
		{"a key of a port", onePort("boud: 9600", "path: /dev/y", "flow: on"), []string{
			":4:5: ports[0].boud is not known; did you mean baud?",
			":5:5: ports[0].path is not known; there are attribute-size, baud, device, device-type, dialect, load-size, parity, port, rtscts, version-property",
			":6:5: ports[0].flow is not known; there are attribute-size, baud, device, device-type, dialect, load-size, parity, port, rtscts, version-property",
		}},
		{"a key of a port twice", onePort("baud: 9600", "baud: 9600"), []string{":5:5: ports[0].baud stands twice, first in line 4; take one of them out"}},
		{"a device id", "ports:\n  - device: a b\n    port: /dev/x\n", []string{`:2:13: ports[0].device: malformed id: ' ' at position 2 of "a b"; allowed are A-Z a-z 0-9 . _ -`}},
		{"a device by number", "ports:\n  - device: 0012\n    port: /dev/x\n", []string{`:2:13: ports[0].device is a number; put it in quotes: device: "0012"`}},
		{"a port's name", "ports:\n  - device: a\n    port: usb:0403\n", []string{":3:11: ports[0].port: no product id; the form is usb:VID:PID[:SERIAL][:ifNN], for example usb:0403:6001:A50285BI"}},
		{"baud", onePort("baud: 12"), []string{`:4:11: ports[0].baud is "12", allowed are 300 to 4000000`}},
		{"baud, higher", onePort("baud: 99999999999999999999"), []string{`:4:11: ports[0].baud is "99999999999999999999", allowed are 300 to 4000000`}},
		{"baud as text", onePort("baud: fast"), []string{":4:11: ports[0].baud is text; write a whole number, without quotes"}},
		{"baud in quotes", onePort("baud: '9600'"), []string{":4:11: ports[0].baud is text; write a whole number, without quotes"}},
		{"baud with a fraction", onePort("baud: 9600.5"), []string{":4:11: ports[0].baud is a number; write a whole number, without quotes"}},
		{"parity", onePort("parity: mark"), []string{`:4:13: ports[0].parity is "mark", allowed are odd, even and none`}},
		{"rtscts", onePort("rtscts: maybe"), []string{`:4:13: ports[0].rtscts is "maybe", allowed are on and off`}},
		{"rtscts by number", onePort("rtscts: 1"), []string{`:4:13: ports[0].rtscts is a number; put it in quotes: rtscts: "1"`}},
		{"dialect", onePort("dialect: klingon"), []string{`:4:14: ports[0].dialect is "klingon"; there are afero, ayla`}},
		{"version-property", onePort("version-property: " + strings.Repeat("x", 300)), []string{":4:23: ports[0].version-property: malformed payload: version has 300 bytes, at most 255 are allowed"}},
		{"an option of the other dialect", onePort("dialect: afero", "load-size: 64"), []string{":5:16: ports[0].load-size is of dialect ayla, and the port's is afero; leave it out"}},
		{"attribute-size", onePort("attribute-size: 4"), []string{`:4:21: ports[0].attribute-size is "4", allowed are 5 to 2046`}},
		{"a device twice", "ports:\n  - device: a\n    port: /dev/x\n  - device: a\n    port: /dev/y\n", []string{
			":4:13: ports[1].device is a as in line 2; a line has one host MCU and a device one line",
		}},
		{"a port twice", "ports:\n  - device: a\n    port: /dev/x\n  - device: b\n    port: /dev/../dev/x\n  - device: c\n    port: usb:0403:6001:X\n  - device: d\n    port: usb:403:6001:X\n", []string{
			":5:11: ports[1].port is /dev/x as in line 3; a port has one host MCU behind it",
			":9:11: ports[3].port is usb:0403:6001:X as in line 7; a port has one host MCU behind it",
		}},
		{"too many ports", "ports:\n" + manyPorts(bridge.MaxPorts+1), []string{":130:5: ports has 65 entries; a bridge serves at most 64, so start another one for the rest"}},
		{"something in each of them", "brokr: x\nports:\n  - device: a\n    prot: /dev/x\n  - device: b\n    port: /dev/y\n    baud: 1\n    parity: mark\n  - c\n", []string{
			":1:1: brokr is not known; did you mean broker?",
			":3:5: ports[0] has no port; add a line port: PATH under it",
			":4:5: ports[0].prot is not known; did you mean port?",
			`:7:11: ports[1].baud is "1", allowed are 300 to 4000000`,
			`:8:13: ports[1].parity is "mark", allowed are odd, even and none`,
			":9:5: ports[2] is text; write device: and port: for each entry of the list, under each other",
		}},
		{"Windows' ends of lines, comments and blank lines", "# c\r\n\r\nbroker: x\r\nports: # d\r\n  # e\r\n  - device: a # f\r\n    port: /dev/x\r\n    baud: 1 # g\r\n", []string{
			`:8:11: ports[0].baud is "1", allowed are 300 to 4000000`,
		}},
		{"behind a text of several lines", "username: \"a\n  b\"\nbaud: 1\n", []string{":3:1: baud is not known; there are broker, ca, data, defer, drain-timeout, image-keys, image-keys-threshold, key-list, log-format, log-level, metrics, offer-interval, password-file, ports, record, require-signature, root-keys, root-keys-threshold, rotate-password, tls-cert, tls-key, trace-endpoint, trace-ratio, username, window"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			began := time.Now()
			f, _, err := Parse("rack/bridge.yaml", []byte(tt.file), twoDialects, map[string]string{"mqtt": "davit serve"})
			if err == nil {
				t.Fatalf("taken as %+v", f)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
			want := ""
			for i, line := range tt.want {
				if i > 0 {
					want += "\n"
				}
				want += "rack/bridge.yaml" + line
			}
			if err.Error() != want {
				t.Errorf("says\n%s\nwant\n%s", err, want)
			}
		})
	}
}

// manyPorts are entries of two lines.
func manyPorts(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  - device: d%d\n    port: /dev/x%d\n", i, i)
	}
	return b.String()
}

// Of very many mistakes the first ones are told.
func TestManyMistakes(t *testing.T) {
	_, _, err := Parse("f", []byte(strings.Repeat("x: 1\n", 100)), nil, nil)
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != yamlfile.MaxProblems || lines[yamlfile.MaxProblems-1] != "f:20:1: there are 81 more mistakes from here on" {
		t.Errorf("%q", lines)
	}
}

// What a file may look like.
func TestForms(t *testing.T) {
	on, off := true, false
	for _, tt := range []struct {
		name, file string
		want       File
	}{
		{"JSON", `{"broker": "x:1", "ports": [{"device": "a", "port": "/dev/x", "rtscts": false}]}`, File{
			Broker: "x:1", Ports: []bridge.PortConfig{{Device: "a", Path: "/dev/x", RTSCTS: &off}},
		}},
		{"a header and an end", "---\nusername: u\n...\n", File{Username: "u"}},
		{"a byte order mark", "\ufeffusername: u\n", File{Username: "u"}},
		{"no end of the last line", "username: u", File{Username: "u"}},
		{"quotes", "username: 'a: b'\ndata: \"/x y\"\n", File{Username: "a: b", Data: "/x y"}},
		{"other letters", "username: Pumpenhäusl\ndata: /c\\d\n", File{Username: "Pumpenhäusl", Data: `/c\d`}},
		{"a long name", "data: /" + strings.Repeat("x", 300) + "\n", File{Data: "/" + strings.Repeat("x", 300)}},
		{"relative names", "password-file: p\nca: ../c\nrecord: /r\ndata: ./d\n", File{PasswordFile: "rack/p", CA: "c", Record: "/r", Data: "rack/d"}},
		{"a relative port", onePort("rtscts: true") + "  - device: b\n    port: tty\n    rtscts: on\n", File{Ports: []bridge.PortConfig{
			{Device: "a", Path: "/dev/x", RTSCTS: &on}, {Device: "b", Path: "rack/tty", RTSCTS: &on},
		}}},
		{"a list that is not indented", "ports:\n- device: a\n  port: /dev/x\n", File{Ports: []bridge.PortConfig{{Device: "a", Path: "/dev/x"}}}},
		{"as many ports as can be", "ports:\n" + manyPorts(bridge.MaxPorts), func() (f File) {
			for i := range bridge.MaxPorts {
				f.Ports = append(f.Ports, bridge.PortConfig{Device: fmt.Sprintf("d%d", i), Path: fmt.Sprintf("/dev/x%d", i)})
			}
			return f
		}()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, _, err := Parse("rack/bridge.yaml", []byte(tt.file), twoDialects, map[string]string{"mqtt": "davit serve"})
			if err != nil || !reflect.DeepEqual(f, tt.want) {
				t.Errorf("%v, %+v\nwant %+v", err, f, tt.want)
			}
		})
	}
}

// As many ports as there can be, with every field, well fit into the limits.
func TestLargestFileFits(t *testing.T) {
	var b strings.Builder
	b.WriteString("broker: mqtts://davit.example.com:8883\nports:\n")
	for i := range bridge.MaxPorts {
		fmt.Fprintf(&b, "  # %s\n  - device: %s-%02d\n    port: \"by-path:%s-%02d\"\n    dialect: ayla\n    baud: 115200\n    parity: odd\n    rtscts: on\n    version-property: %s\n    load-size: 128\n",
			strings.Repeat("a comment ", 20), strings.Repeat("d", 60), i, strings.Repeat("p", 80), i, strings.Repeat("v", 64))
	}
	if f, _, err := Parse("f", []byte(b.String()), twoDialects, nil); err != nil || len(f.Ports) != bridge.MaxPorts {
		t.Errorf("%d bytes: %v", b.Len(), err)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("broker: x\n"), 0); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(long, 1<<40); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, want string }{
		{filepath.Join(dir, "missing"), ": the configuration file cannot be read: no such file or directory"},
		{dir, ": is a directory; name the configuration file in it"},
		{"/dev/null", ": is not a regular file; it has to be one, so that it can be read again"},
		{long, ": the file is longer than 64 KiB; is it a bridge's configuration?"},
		{secret, ": the configuration file cannot be read: permission denied"},
	} {
		if tt.name == secret && os.Geteuid() == 0 {
			continue // who reads everything
		}
		_, _, err := Load(tt.name, nil, nil)
		var e *yamlfile.Error
		if !errors.As(err, &e) || err.Error() != tt.name+tt.want {
			t.Errorf("%v, want %s%s", err, tt.name, tt.want)
		}
	}
}

// FuzzParse: whatever is in a file, it is read or refused in bounded time and words
// that can be printed, each mistake with a line that there is.
func FuzzParse(f *testing.F) {
	reference, err := os.ReadFile("../../../docs/bridge.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(reference)
	for _, s := range []string{
		"", "a: b: c", "ports:\n  - device: a\n    port: /dev/x\n    baud: 9600\n", "{a: [b, {c: d}]}", "- - - a", "? a\n: b", "a: |\n b\n", "a: 'b", "&a *a !a", "a: \"\\u0000\"", "---\n...\n---", "\ufeff%YAML",
		": ", "a:\n- b", "ports: [{device: a, port: b}, {device: a, port: b}]", "a: >-\n\n  b\n # c", "[: ]", "{: }", "a: @", "a: `",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, _, err := Parse("f", b, twoDialects, nil)
		if err == nil {
			if len(file.Ports) > bridge.MaxPorts {
				t.Errorf("%d ports", len(file.Ports))
			}
			return
		}
		var e *yamlfile.Error
		if !errors.As(err, &e) || len(e.Problems) == 0 || len(e.Problems) > yamlfile.MaxProblems {
			t.Fatalf("error %v", err)
		}
		lines := strings.Count(string(b), "\n") + 1
		for _, p := range e.Problems {
			if p.Line < 0 || p.Line > lines+1 {
				t.Errorf("line %d of %d: %s", p.Line, lines, p)
			}
			if s := p.String(); s == "" || len(s) > 4096 || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
				t.Errorf("says %q", s)
			}
		}
	})
}

// A key that is written out is no name of a file, and stays as it is.
func TestKeysWrittenOut(t *testing.T) {
	key := signtest.Key(t).Public().String()
	f, _, err := Parse("conf/bridge.yaml", []byte("image-keys:\n  - "+key+"\n  - a.pub\n"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.ImageKeys) != 2 || f.ImageKeys[0] != key || f.ImageKeys[1] != "conf/a.pub" {
		t.Errorf("keys %q", f.ImageKeys)
	}
}
