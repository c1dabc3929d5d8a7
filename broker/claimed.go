package broker

import (
	"errors"
	"fmt"
	"time"
)

// PutClaimed gives a device that a module claims a new password. With fresh the device was
// just made, and whatever stands under its name is of one that is gone. Otherwise it is an
// answer that is repeated: ErrNameTaken if somebody has logged in with the one before, or
// its password is not that of a claim.
func (c *Credentials) PutClaimed(device string, fresh bool) (password string, err error) {
	p := Principal{Name: device, Kind: PrincipalDevice, Devices: []string{device}}
	if err := checkPrincipal(p); err != nil {
		return "", err
	}
	password, hash, err := newPassword()
	if err != nil {
		return "", err
	}
	err = c.update(func(m map[string]*entry) error {
		if old := m[device]; old != nil && (old.Kind != PrincipalDevice || !fresh && !old.Unused) {
			return fmt.Errorf("%w: %s %q", ErrNameTaken, old.Kind, device)
		}
		m[device] = newEntry(record{Principal: p, Hash: hash, Unused: true, Since: instantOf(time.Now())})
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("add claimed device: %w", err)
	}
	return password, nil
}

// used notes that somebody has logged in with a claimed password, on disk before it counts,
// and returns the entry; nil if it is another one by now, or the disk does not take it.
func (c *Credentials) used(e *entry) *entry {
	err := c.update(func(m map[string]*entry) error {
		now := m[e.Name]
		switch {
		case now == nil || now.Hash != e.Hash:
			return ErrNoPrincipal
		case !now.Unused:
			return errUnchanged
		}
		r := now.record
		r.Unused = false
		m[e.Name] = now.changed(r)
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return nil
	}
	return c.lookup(e.Name)
}
