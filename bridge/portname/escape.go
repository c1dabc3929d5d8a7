package portname

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// escape writes text so that it can stand in a port specification and on a
// terminal: %XX for each byte that is not printable ASCII, and for spaces,
// commas and per cent signs.
func escape(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' || c == ',' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// escapeSerial is escape for a serial number, whose end must not be taken for
// an interface.
func escapeSerial(serial string) string {
	at := strings.LastIndexByte(serial, ':') + 1
	if interfaceForm.MatchString(serial[at:]) {
		return escape(serial[:at]) + "%69" + escape(serial[at+1:])
	}
	return escape(serial)
}

func unescape(s string) (string, error) {
	text, err := url.PathUnescape(s)
	if err != nil {
		return "", fmt.Errorf("%q: %% is not followed by two hexadecimal digits; write %%25 for a per cent sign", s)
	}
	return text, nil
}

// Printable is text of a device made safe for a terminal: what is not printable
// is written as a Go escape sequence such as \x1b, and a backslash as two.
// Texts of USB devices are whatever their makers, or attackers, put there.
func Printable(text string) string {
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
