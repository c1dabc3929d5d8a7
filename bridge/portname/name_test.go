package portname

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]string{ // in the one form that each name is written in
		"/dev/ttyUSB0":                  "/dev/ttyUSB0",
		"./usb:x":                       "./usb:x",
		"USB:0403:6001":                 "USB:0403:6001", // a file
		"usb:403:6001":                  "usb:0403:6001",
		"usb:1A86:7523:AbC":             "usb:1a86:7523:AbC",
		"usb:0403:6011:IF02":            "usb:0403:6011:IF02", // a serial number
		"usb:0403:6011:FT4A:if0A":       "usb:0403:6011:FT4A:if0a",
		"usb:0403:6011:if02-port3":      "usb:0403:6011:if02-port3",
		"usb:303a:1001:34:85:18:AB":     "usb:303a:1001:34:85:18:AB",
		"usb:0403:6001:if1":             "usb:0403:6001:if1", // one digit: a serial number
		"usb:0403:6001:%69f01":          "usb:0403:6001:%69f01",
		"usb:0403:6001:a%2cb%20c%25":    "usb:0403:6001:a%2Cb%20c%25",
		"usb:0403:6001:a b":             "usb:0403:6001:a%20b",
		"by-path:1-1.4:1.0":             "by-path:1-1.4:1.0",
		"by-path:platform-usb@1%2C0-if": "by-path:platform-usb@1%2C0-if",
	} {
		if n, err := Parse(s); err != nil || n.String() != want {
			t.Errorf("%q is %s, error %v, want %s", s, n, err, want)
		}
	}
	for s, want := range map[string]string{
		"":                      "the path is empty",
		"usb:":                  "no product id",
		"usb:0403":              "no product id",
		"usb:0403:":             `USB id ""`,
		"usb:zz:1":              `USB id "zz"`,
		"usb:10403:6001":        "one to four hexadecimal digits",
		"usb:0x40:6001":         "one to four hexadecimal digits",
		"usb:0403:6001:":        "leave it out",
		"usb:0403:6001::if00":   "leave it out",
		"usb:0403:6001:50%":     "write %25",
		"by-path:":              "not the name of a link",
		"by-path:..":            "not the name of a link",
		"by-path:a/b":           "not the name of a link",
		"by-path:..%2f..%2fetc": "not the name of a link",
	} {
		if n, err := Parse(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %s, error %v, want %q", s, n, err, want)
		}
	}
}

// FuzzParse: what is read is written in one form, which is read the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"/dev/ttyUSB0", "usb:0403:6001", "usb:403:6011:FT4A:if02", "usb:1:2:%69f00:if00-port1", "usb:1:2::x", "by-path:1-1.4:1.0", "by-path:%2C"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(n.String()); err != nil || again != n {
			t.Errorf("%q is written %q, which is %#v, error %v, and not %#v", s, n.String(), again, err, n)
		}
		if !n.IsPath() && strings.ContainsFunc(n.String(), func(r rune) bool { return r <= ' ' || r > '~' || r == ',' }) {
			t.Errorf("%q cannot stand in a port specification", n.String())
		}
	})
}

// FuzzNames: whatever is in an adapter's serial number, its name is read back
// and fits it.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"A50285BI", "34:85:18:AB", "if00", "a:if00-port1", "a,b=c", "50%", "\x1b[2J", ":", " "} {
		f.Add(s, "1-1:1.0")
	}
	f.Fuzz(func(t *testing.T, serial, place string) {
		p := Port{Path: "/dev/ttyUSB0", USB: &USB{Vendor: 0x403, Product: 0x6011, Serial: serial, Interface: 2, Place: place}}
		q := p
		q.Path, q.USB = "/dev/ttyUSB1", &USB{Vendor: 0x403, Product: 0x6011, Serial: serial, Interface: 3, Place: place}
		ports := []Port{p, q}
		for i, n := range Names(ports) {
			again, err := Parse(n.String())
			if err != nil || again != n || !n.fits(ports[i]) || n.fits(ports[1-i]) {
				t.Errorf("serial %q: name %s, error %v", serial, n, err)
			}
		}
	})
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"FT232R USB UART":   "FT232R USB UART",
		`a "b" \ c`:         `a "b" \\ c`,
		"x\x1b[2J\r\n":      `x\x1b[2J\r\n`,
		"\u009b31m\u202e\t": `\u009b31m\u202e\t`,
		"\xff":              `\xff`,
		"Müller":            "Müller",
	} {
		if got := Printable(text); got != want || !utf8.ValidString(got) {
			t.Errorf("%q is printed %q, want %q", text, got, want)
		}
	}
}
