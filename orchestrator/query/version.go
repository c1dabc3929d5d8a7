package query

import "strings"

// CompareVersions returns -1, 0 or +1 as version a comes before, equals or comes
// after b. It is a total order over all strings:
//
//   - a leading v before a digit does not count;
//   - numbers separated by dots compare as numbers from left to right, whatever
//     their length, and those that are missing are 0: 2.9 < 2.10, 1.0 = 1.0.0;
//   - if nothing but numbers and dots stands before the first hyphen, what follows it
//     is a pre-release, which comes before the release and compares as Semantic
//     Versioning 2.0.0 section 11 says: 1.0.0-alpha.1 < 1.0.0-beta < 1.0.0;
//   - likewise, what follows a plus sign is build metadata and does not count
//     (section 10 there);
//   - everything else compares in natural order: runs of digits as numbers, what is
//     between them byte by byte: r9 < r10, 1.0 < 1.0a < 1.0.1.
func CompareVersions(a, b string) int {
	x, y := newScan(a), newScan(b)
	for {
		kx, tx := x.next()
		ky, ty := y.next()
		if kx != ky {
			if kx < ky {
				return -1
			}
			return 1
		}
		c := 0
		switch kx {
		case atEnd:
			return 0
		case number, preNumber:
			c = compareDigits(tx, ty)
		default:
			c = strings.Compare(tx, ty)
		}
		if c != 0 {
			return c
		}
	}
}

// part is what a version consists of, in the order in which different parts
// stand at the same place. Pre-release parts meet only one another and the end.
type part int

const (
	preMark   part = iota // what follows is a pre-release
	atEnd                 // nothing more
	text                  // anything but digits
	number                // digits
	preNumber             // a pre-release identifier of digits alone
	preText               // any other one
)

// versionScan walks over the parts of a version.
type versionScan struct {
	core string // what is left of numbers and dots, or of what is no such version
	pre  string // what is left of the pre-release
	mark bool   // a pre-release follows whose mark was not passed
}

func newScan(s string) versionScan {
	if len(s) > 1 && (s[0] == 'v' || s[0] == 'V') && isDigit(s[1]) {
		s = s[1:]
	}
	n := 0
	for n < len(s) && (isDigit(s[n]) || s[n] == '.') {
		n++
	}
	if n < len(s) && s[n] != '-' && s[n] != '+' || n == 0 {
		return versionScan{core: s}
	}
	core := strings.TrimRight(s[:n], ".0")
	// 10 has lost a digit that counts; it stands right after what is left.
	for len(core) > 0 && len(core) < n && isDigit(s[len(core)]) {
		core = s[:len(core)+1]
	}
	pre, _, _ := strings.Cut(s[n:], "+")
	if pre == "" {
		return versionScan{core: core}
	}
	return versionScan{core: core, pre: pre[1:], mark: true}
}

func (v *versionScan) next() (part, string) {
	if v.core != "" {
		return v.nextCore()
	}
	if v.mark {
		v.mark = false
		return preMark, ""
	}
	if v.pre == "" {
		return atEnd, ""
	}
	id, rest, _ := strings.Cut(v.pre, ".")
	v.pre = rest
	if id != "" && digits(id) == len(id) {
		return preNumber, id
	}
	return preText, id
}

func (v *versionScan) nextCore() (part, string) {
	// A dot only separates numbers.
	if v.core[0] == '.' && len(v.core) > 1 && isDigit(v.core[1]) {
		v.core = v.core[1:]
	}
	n := digits(v.core)
	kind := number
	if n == 0 {
		kind = text
		for n < len(v.core) && !isDigit(v.core[n]) {
			n++
		}
	}
	out := v.core[:n]
	v.core = v.core[n:]
	return kind, out
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// digits counts the digits at the beginning.
func digits(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

// compareDigits compares decimal numbers of any length.
func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	switch {
	case len(a) < len(b):
		return -1
	case len(a) > len(b):
		return 1
	}
	return strings.Compare(a, b)
}
