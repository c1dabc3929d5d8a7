package trust

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Signed is a signed text (a manifest or a key list) as it is kept and sent:
// exactly the bytes that were signed, and the signatures, one minisign file
// after the other.
type Signed struct {
	Text       []byte
	Signatures []byte
}

// encodeText is the one text of v: indented JSON with the fields in the order of
// their declaration, and a newline.
func encodeText(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// decodeText reads what encodeText wrote. Whatever else means the same (other
// spaces, order, escapes, letters, doubled fields, data after the end) is refused:
// one value has one text, so that no two readers can see two values in one.
func decodeText(what string, text []byte, limit, version int, v any) error {
	if len(text) > limit {
		return refuse(ErrMalformed, "the %s has %d bytes, at most %d are allowed", what, len(text), limit)
	}
	if !utf8.Valid(text) {
		return refuse(ErrMalformed, "the %s is not UTF-8 text", what)
	}
	// A person is told first that the program is too old, if it is.
	unfit := func(format string, args ...any) error {
		if other := versionOf(text); other != version && other != 0 {
			return refuse(ErrMalformed, "the %s has format version %d; this program knows version %d and has to be updated", what, other, version)
		}
		return refuse(ErrMalformed, "the %s %s", what, fmt.Sprintf(format, args...))
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return unfit("cannot be read: %s", cut(err.Error(), 120))
	}
	want, err := encodeText(v)
	if err != nil {
		return unfit("cannot be read: %v", err)
	}
	if !bytes.Equal(text, want) {
		return unfit("is not in its one form: %s; have davit write it, and sign that", firstDifference(string(text), string(want)))
	}
	return nil
}

// versionOf is the format version that a text of any version has, or 0.
func versionOf(text []byte) int {
	var head struct {
		V int `json:"v"`
	}
	if json.Unmarshal(text, &head) != nil {
		return 0
	}
	return head.V
}

// firstDifference says in which line two texts differ first.
func firstDifference(got, want string) string {
	line := 1
	for {
		g, gotMore, _ := strings.Cut(got, "\n")
		w, wantMore, _ := strings.Cut(want, "\n")
		if g != w || gotMore == "" || wantMore == "" {
			return sprintLine(line, g, w)
		}
		line, got, want = line+1, gotMore, wantMore
	}
}

// checkMoment refuses times that have more than one text: only whole seconds of
// UTC in years of four digits are used.
func checkMoment(what, field string, t time.Time) error {
	if t.Location() != time.UTC || t.Nanosecond() != 0 || t.Year() < 2000 || t.Year() > 9999 {
		return refuse(ErrMalformed, "%s of the %s is %s; it has to be a whole second in UTC from the year 2000 on", field, what, t.Format(time.RFC3339Nano))
	}
	return nil
}

// checkSpan refuses a text that ends before it begins.
func checkSpan(what string, created, expires time.Time) error {
	if err := checkMoment(what, "created", created); err != nil {
		return err
	}
	if err := checkMoment(what, "expires", expires); err != nil {
		return err
	}
	if !expires.After(created) {
		return refuse(ErrMalformed, "the %s expires at %s, not after it was created, %s", what, moment(expires), moment(created))
	}
	return nil
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Moment cuts t to what texts of this package can say: whole seconds of UTC.
func Moment(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// maxSkew is how far clocks of signers may be ahead of a verifier's.
const maxSkew = 24 * time.Hour

// checkClock refuses a text from the future: a verifier whose clock is behind
// would also take what has expired.
func checkClock(what string, created, now time.Time) error {
	if created.After(now.Add(maxSkew)) {
		return refuse(ErrNotYetValid, "the %s was made at %s, and the clock here says %s: set the clock of this machine, or the signer's and sign again",
			what, moment(created), moment(now))
	}
	return nil
}

// sprintLine names the line and what stands there, cut to a readable length.
func sprintLine(line int, got, want string) string {
	const longest = 60
	return fmt.Sprintf("line %d is %q instead of %q", line, cut(got, longest), cut(want, longest))
}

// cut keeps errors readable when what they show is long.
func cut(s string, longest int) string {
	if len(s) > longest {
		return strings.ToValidUTF8(s[:longest], "") + "..."
	}
	return s
}
