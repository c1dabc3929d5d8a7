package orchestrator

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"davit/internal/clock"
	"davit/schemas"
)

// Limits of claims.
const (
	// ClaimDefault is how long a claim is good unless its maker says otherwise.
	ClaimDefault = 30 * 24 * time.Hour
	// ClaimLongest is the longest that a claim can be good.
	ClaimLongest = 365 * 24 * time.Hour
	// MaxClaimUses is the largest number of uses; more is without a limit.
	MaxClaimUses    = 1_000_000
	maxClaimPattern = 128
	maxClaimGroups  = 16
)

// ClaimState says whether devices can be made with a claim.
type ClaimState string

// The states of a claim.
const (
	ClaimActive  ClaimState = "active"
	ClaimUsedUp  ClaimState = "used_up" // an answer that was lost is still repeated
	ClaimExpired ClaimState = "expired"
	ClaimNotYet  ClaimState = "not_yet" // it was made at a time that is still to come: the clock was ahead, or set back since
	ClaimRevoked ClaimState = "revoked"
)

// Claim lets modules without credentials become devices: whoever has its token can have
// devices made, of one type, as many as it has uses. The token is kept nowhere but as its
// hash, in a table of its own.
type Claim struct {
	ID          string            `json:"id" doc:"Typed by people, unique and never changed: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	DeviceType  string            `json:"device_type" doc:"The type of the devices that are made"`
	Devices     string            `json:"devices,omitempty" doc:"The ids that may be claimed: a pattern in which * stands for any characters, ? for one and [a-z] for one of a range; absent for all"`
	Labels      map[string]string `json:"labels,omitempty" doc:"Labels of the devices that are made"`
	Groups      []string          `json:"groups,omitempty" doc:"Static groups that the devices are put into"`
	Description string            `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Uses        int               `json:"uses,omitempty" doc:"How many devices can be made in all; absent for any number"`
	Used        int               `json:"used" doc:"How many devices were made"`
	ExpiresAt   time.Time         `json:"expires_at" doc:"From then on the token is refused"`
	CreatedBy   string            `json:"created_by" doc:"Who created it"`
	CreatedAt   time.Time         `json:"created_at" doc:"When it was created"`
	LastUsedAt  time.Time         `json:"last_used_at,omitzero" doc:"When the last device was made"`
	RevokedAt   time.Time         `json:"revoked_at,omitzero" doc:"When it was revoked; absent if it was not"`
	Revision    uint64            `json:"revision" doc:"Counts what changed it; the entity tag of the record"`
}

// NewClaim is a claim to be created.
type NewClaim struct {
	ID          string            `json:"id" doc:"Typed by people, unique and never changed: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	DeviceType  string            `json:"device_type" doc:"The type of the devices that are made; it has to exist"`
	Devices     string            `json:"devices,omitempty" doc:"The ids that may be claimed: a pattern in which * stands for any characters, ? for one and [a-z] for one of a range; absent for all"`
	Labels      map[string]string `json:"labels,omitempty" doc:"Labels of the devices that are made"`
	Groups      []string          `json:"groups,omitempty" doc:"Static groups that the devices are put into; they have to exist"`
	Description string            `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Uses        int               `json:"uses,omitempty" doc:"How many devices can be made in all, 1 to 1000000; 1 if left out"`
	Unlimited   bool              `json:"unlimited,omitempty" doc:"Any number of devices; not together with uses"`
	Expires     Duration          `json:"expires,omitempty" doc:"How long it is good, for example 720h; at most a year; 30 days if left out"`
}

// ClaimSecret is a claim with its token, which is told this once.
type ClaimSecret struct {
	Claim
	Token string `json:"token,omitempty" doc:"What modules give as their MQTT password; it is kept nowhere and shown this once"`
}

// State says whether devices can be made with the claim at that time.
func (c *Claim) State(now time.Time) ClaimState {
	switch {
	case !c.RevokedAt.IsZero():
		return ClaimRevoked
	case !now.Before(c.ExpiresAt):
		return ClaimExpired
	case clock.ToCome(c.CreatedAt, now): // it would last longer by as much
		return ClaimNotYet
	case c.Uses > 0 && c.Used >= c.Uses:
		return ClaimUsedUp
	}
	return ClaimActive
}

func (c *Claim) table() Table       { return tableClaims }
func (c *Claim) id() string         { return c.ID }
func (c *Claim) counters() []string { return nil }

// entries keep what a claim needs from being deleted until it is revoked.
func (c *Claim) entries() []entry {
	if !c.RevokedAt.IsZero() {
		return nil
	}
	es := []entry{{indexClaimByDeviceType, keyOf(c.DeviceType, c.ID), keyOf(c.ID)}}
	for _, g := range c.Groups {
		es = append(es, entry{indexClaimByGroup, keyOf(g, c.ID), keyOf(c.ID)})
	}
	return es
}

// allows says whether a device of that id may be claimed. The pattern was checked.
func (c *Claim) allows(device string) bool {
	if c.Devices == "" {
		return true
	}
	ok, err := path.Match(c.Devices, device) // an id has no slash
	return ok && err == nil
}

func (n NewClaim) validate() error {
	if err := checkID("id", n.ID); err != nil {
		return err
	}
	if err := checkID("device_type", n.DeviceType); err != nil {
		return err
	}
	if err := checkLabels(n.Labels); err != nil {
		return err
	}
	if err := checkNames(nil, &n.Description); err != nil {
		return err
	}
	if err := distinctIDs("groups", n.Groups, maxClaimGroups); err != nil {
		return err
	}
	if err := checkText("devices", n.Devices, maxClaimPattern, false); err != nil {
		return err
	}
	if _, err := path.Match(n.Devices, ""); err != nil {
		return invalidField("devices", "%q is not a pattern: * stands for any characters, ? for one and [a-z] for one of a range", n.Devices)
	}
	switch {
	case n.Unlimited && n.Uses != 0:
		return invalidField("uses", "it cannot stand together with unlimited; leave one of them out")
	case n.Uses < 0 || n.Uses > MaxClaimUses:
		return invalidField("uses", "it is %d, allowed are 1 to %d", n.Uses, MaxClaimUses)
	case n.Expires < 0 || time.Duration(n.Expires) > ClaimLongest:
		return invalidField("expires", "it is %s, at most %s are allowed", time.Duration(n.Expires), ClaimLongest)
	}
	return nil
}

// record is the claim as it begins.
func (n NewClaim) record(t *txn) *Claim {
	c := &Claim{
		ID: n.ID, DeviceType: n.DeviceType, Devices: n.Devices, Labels: maps.Clone(n.Labels), Groups: slices.Clone(n.Groups), Description: n.Description,
		Uses: n.Uses, ExpiresAt: t.now.Add(time.Duration(n.Expires)), CreatedBy: t.actor.Name, CreatedAt: t.now, Revision: 1,
	}
	if n.Expires == 0 {
		c.ExpiresAt = t.now.Add(ClaimDefault)
	}
	if n.Uses == 0 && !n.Unlimited {
		c.Uses = 1
	}
	return c
}

// CreateClaim makes a claim and its token, which is returned this once.
func (s *Service) CreateClaim(ctx context.Context, n NewClaim) (ClaimSecret, error) {
	if err := n.validate(); err != nil {
		return ClaimSecret{}, err
	}
	made := ClaimSecret{Token: schemas.ClaimToken(n.ID, rand.Text()+rand.Text())} // 260 bits
	_, err := s.commit(ctx, func(t *txn) error {
		if err := t.once(ctx); err != nil {
			return err
		}
		if err := vacant[Claim](t, "claim", n.ID); err != nil {
			return inField("id", ErrExists, err)
		}
		if _, err := needField[DeviceType](t, "device_type", "device type", n.DeviceType); err != nil {
			return err
		}
		for i, id := range n.Groups {
			g, err := needField[Group](t, element("groups", i), "group", id)
			if err != nil {
				return err
			}
			if g.Query != "" {
				return invalidField(element("groups", i), "group %q is what its query finds; give the devices a label that it finds", id)
			}
		}
		rec := n.record(t)
		made.Claim = *rec
		return errors.Join(put(t, nil, rec), t.Put(tableClaimHashes, keyOf(rec.ID), hashClaimToken(made.Token)),
			t.audit("create", KindClaim, rec.ID, nil, rec))
	})
	if err != nil {
		return ClaimSecret{}, err
	}
	return made, nil
}

// hashClaimToken is what is kept of a token. One round is enough for one that nobody
// can guess.
func hashClaimToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// RevokeClaim ends a claim; devices that were made with it stay. Repeating it changes
// nothing.
func (s *Service) RevokeClaim(ctx context.Context, id string) (Claim, error) {
	var rec Claim
	_, err := s.commit(ctx, func(t *txn) error {
		old, err := need[Claim](t, "claim", id)
		if err != nil {
			return err
		}
		rec = *old
		if !rec.RevokedAt.IsZero() {
			return nil
		}
		rec.RevokedAt = t.now
		rec.Revision++
		return errors.Join(put(t, old, &rec), t.audit("revoke", KindClaim, id, old, &rec))
	})
	return rec, err
}

// Claim returns one claim.
func (s *Service) Claim(ctx context.Context, id string) (Claim, error) {
	return one[Claim](ctx, s.store, "claim", id)
}

// Claims lists claims by id.
func (s *Service) Claims(ctx context.Context, p Page) ([]Claim, string, error) {
	return list[Claim](ctx, s.store, p)
}

// ErrClaimToken: there is no such claim, or the token is another's. Which of the two is
// not told.
var ErrClaimToken = errors.New("there is no claim with this name and token")

// ClaimError says why a claim makes no device, in the words of the contract.
type ClaimError struct {
	Reason schemas.RequestError
	text   string
}

// Error implements error.
func (e *ClaimError) Error() string { return e.text }

func claimRefused(reason schemas.RequestError, format string, args ...any) error {
	return &ClaimError{reason, fmt.Sprintf(format, args...)}
}

// CheckClaim says whether a module with the token may ask for the device: ErrClaimToken if
// it is not the claim's, and a *ClaimError if it is and will not do. A claim that is used up
// does for a device that was made with it, whose answer may have been lost.
func (s *Service) CheckClaim(ctx context.Context, id, token, device string) error {
	return s.store.View(ctx, func(r Reader) error {
		want, err := r.Get(tableClaimHashes, keyOf(id))
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare(want, hashClaimToken(token)) != 1 {
			return ErrClaimToken
		}
		c, err := need[Claim](r, "claim", id)
		if err != nil {
			return err
		}
		mark, err := find[claimMark](r, device)
		if err != nil {
			return err
		}
		return c.fits(s.now(), device, mark)
	})
}

// fits says whether the claim is good for a device, which mark says was claimed before.
func (c *Claim) fits(now time.Time, device string, mark *claimMark) error {
	switch state := c.State(now); {
	case state == ClaimRevoked:
		return claimRefused(schemas.ErrorRevoked, "claim %q was revoked", c.ID)
	case state == ClaimExpired:
		return claimRefused(schemas.ErrorExpired, "claim %q has expired", c.ID)
	case state == ClaimNotYet:
		return claimRefused(schemas.ErrorBusy, "the clock of the service was set back since claim %q was made, at %s; ask again then, or have another claim made", c.ID, c.CreatedAt.Format(time.RFC3339))
	case !c.allows(device):
		return claimRefused(schemas.ErrorNotAllowed, "claim %q is for devices %q", c.ID, c.Devices)
	case state == ClaimUsedUp && (mark == nil || mark.Claim != c.ID):
		return claimRefused(schemas.ErrorUsedUp, "claim %q has no uses left", c.ID)
	}
	return nil
}

// claimMark notes with which claim a device was made. It goes with the device.
type claimMark struct {
	Device string `json:"device"`
	Claim  string `json:"claim"`
	// Nonce is the SHA-256 of the request's.
	Nonce string    `json:"nonce"`
	At    time.Time `json:"at"`
}

func (m *claimMark) table() Table       { return tableClaimed }
func (m *claimMark) id() string         { return m.Device }
func (m *claimMark) counters() []string { return nil }
func (m *claimMark) entries() []entry   { return nil }

func hashNonce(nonce string) string {
	sum := sha256.Sum256([]byte(nonce))
	return hex.EncodeToString(sum[:])
}
