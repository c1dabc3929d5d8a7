package trust

import "bytes"

// signatureStart begins the first signature of a bundle. It begins no line of a signed
// text, which is JSON.
const signatureStart = "untrusted comment:"

// Bundle is a signed text as it travels: the text, and the signatures behind it. A
// device is told its SHA-256 and size (schemas.Offer.Manifest).
func (s Signed) Bundle() []byte {
	return append(bytes.Clone(s.Text), s.Signatures...)
}

// ParseBundle takes a bundle apart. Nothing is verified; a bundle without a signature
// has none.
func ParseBundle(b []byte) Signed {
	at := bytes.Index(b, []byte("\n"+signatureStart))
	if at < 0 {
		return Signed{Text: bytes.Clone(b)}
	}
	return Signed{Text: bytes.Clone(b[:at+1]), Signatures: bytes.Clone(b[at+1:])}
}
