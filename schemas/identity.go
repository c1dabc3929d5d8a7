package schemas

import (
	"errors"
	"fmt"
	"strings"
)

// IdentityKind says whom a client certificate stands for.
type IdentityKind string

// The kinds of identities.
const (
	IdentityDevice IdentityKind = "device"
	IdentityBridge IdentityKind = "bridge"
)

// IdentityScheme is the URI scheme of identities in certificates.
const IdentityScheme = "davit"

// ErrIdentity is wrapped by every error about a URI that is no identity.
var ErrIdentity = errors.New("not an identity")

// Identity is whom a client certificate stands for: a subject alternative name of
// the form davit:device:ID or davit:bridge:ID.
type Identity struct {
	Kind IdentityKind
	ID   string
}

// String is the URI of the identity.
func (i Identity) String() string { return IdentityScheme + ":" + string(i.Kind) + ":" + i.ID }

// ParseIdentity reads the URI of an identity. There is one way to write each:
// nothing is unescaped, trimmed or folded, so that what looks like another name is
// another name.
func ParseIdentity(uri string) (Identity, error) {
	kind, id, ok := strings.Cut(strings.TrimPrefix(uri, IdentityScheme+":"), ":")
	if !ok || !strings.HasPrefix(uri, IdentityScheme+":") {
		return Identity{}, fmt.Errorf("%w: %.100q; the form is davit:device:ID or davit:bridge:ID", ErrIdentity, uri)
	}
	i := Identity{IdentityKind(kind), id}
	if i.Kind != IdentityDevice && i.Kind != IdentityBridge {
		return Identity{}, fmt.Errorf("%w: %.100q is of kind %.20q; there are device and bridge", ErrIdentity, uri, kind)
	}
	if err := ValidateID(id); err != nil {
		return Identity{}, fmt.Errorf("%w: %.100q: %w", ErrIdentity, uri, err)
	}
	return i, nil
}
