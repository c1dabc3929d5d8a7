package orchestrator

import (
	"context"
	"errors"
	"maps"
	"slices"

	"davit/schemas"
)

// claimNote is what the audit log keeps of a device that was claimed, beside its record.
type claimNote struct {
	Claim        string            `json:"claim"`
	HostVersions map[string]string `json:"host_versions,omitempty"`
}

// groupNote is what it keeps of a group that a device was put into: not the whole list,
// which may be long.
type groupNote struct {
	AddDevices string `json:"add_devices"`
}

// ClaimDevice makes a device with a claim, whose token CheckClaim has seen, and counts the
// use, in one transaction. repeated says that the same claim and nonce made the device
// before: nothing is counted then, and whether it may have a password is for those to say
// who know whether it has one. Errors are *ClaimError, or the service's own.
func (s *Service) ClaimDevice(ctx context.Context, claim, device string, request schemas.Claim) (d Device, repeated bool, err error) {
	if err := checkID("id", device); err != nil {
		return Device{}, false, claimRefused(schemas.ErrorMalformed, "%v", err)
	}
	_, err = s.commit(ctx, func(t *txn) error {
		repeated = false
		c, err := find[Claim](t, claim)
		if err != nil {
			return err
		}
		if c == nil {
			return claimRefused(schemas.ErrorRevoked, "there is no claim %q any more", claim)
		}
		mark, err := find[claimMark](t, device)
		if err != nil {
			return err
		}
		if err := c.fits(t.now, device, mark); err != nil {
			return err
		}
		if request.DeviceType != "" && request.DeviceType != c.DeviceType {
			return claimRefused(schemas.ErrorDeviceType, "claim %q makes devices of type %q, and this one says that it is of type %q", c.ID, c.DeviceType, request.DeviceType)
		}
		old, err := find[Device](t, device)
		if err != nil {
			return err
		}
		if old != nil {
			repeated, d = true, *old
			return mark.again(c, old, request.Nonce)
		}
		d = t.newDevice(NewDevice{ID: device, Type: c.DeviceType, Labels: c.Labels})
		return t.claim(c, &d, request)
	})
	return d, repeated, err
}

// again says whether the request is the one that made the device; m is nil if none did.
func (m *claimMark) again(c *Claim, d *Device, nonce string) error {
	switch {
	case m == nil || m.Claim != c.ID || m.Nonce != hashNonce(nonce):
		return ClaimTaken(d.ID)
	case d.quarantined():
		return claimRefused(schemas.ErrorQuarantined, "device %q is in quarantine", d.ID)
	}
	return nil
}

// ClaimTaken says that a device or bridge has the id.
func ClaimTaken(id string) error {
	return claimRefused(schemas.ErrorExists, "there is a device or bridge %q already; if it is this one, and its password is lost, davit device rotate gives it another", id)
}

// claim makes the device and counts the use.
func (t *txn) claim(c *Claim, d *Device, request schemas.Claim) error {
	used := *c
	used.Used++
	used.LastUsedAt = t.now
	used.Revision++
	mark := &claimMark{Device: d.ID, Claim: c.ID, Nonce: hashNonce(request.Nonce), At: t.now}
	note := claimNote{c.ID, maps.Clone(request.HostVersions)}
	if err := errors.Join(put(t, c, &used), put(t, nil, mark), put(t, nil, d), t.audit("claim", KindDevice, d.ID, note, d)); err != nil {
		return err
	}
	for _, id := range c.Groups {
		if err := t.enroll(id, d.ID); err != nil {
			return err
		}
	}
	return t.matchNow(d.ID)
}

// enroll puts a new device into a static group.
func (t *txn) enroll(group, device string) error {
	old, err := need[Group](t, "group", group)
	if err != nil {
		return err
	}
	rec := *old
	rec.Devices = members(append(slices.Clone(old.Devices), device))
	rec.Revision++
	return errors.Join(put(t, old, &rec), t.audit("update", KindGroup, group, nil, groupNote{device}))
}

// unclaim forgets that a device was claimed; it is being deleted.
func (t *txn) unclaim(device string) error {
	mark, err := find[claimMark](t, device)
	if err != nil || mark == nil {
		return err
	}
	return remove(t, mark)
}
