package broker

import (
	"maps"
	"slices"

	"davit/schemas"
)

// SetQuarantined makes these devices those that are in quarantine, and no others.
// The service knows them and says so when it starts.
func (c *Credentials) SetQuarantined(devices []string) {
	c.change.Lock()
	defer c.change.Unlock()
	c.mu.RLock()
	old := c.quarantined
	c.mu.RUnlock()
	fresh := make(map[string]struct{}, len(devices))
	for _, d := range devices {
		fresh[d] = struct{}{}
	}
	changed := func(device string) bool {
		_, was := old[device]
		_, is := fresh[device]
		return was != is
	}
	c.requarantine(fresh, changed)
}

// Quarantine shuts a device out until Release: nobody is let in as the device, and its
// bridges lose it. The connections that act for it end; a bridge comes back for its
// other devices.
func (c *Credentials) Quarantine(device string) { c.setQuarantine(device, true) }

// Release ends a quarantine. A bridge that has the device is ended, so that it comes
// back for it.
func (c *Credentials) Release(device string) { c.setQuarantine(device, false) }

func (c *Credentials) setQuarantine(device string, in bool) {
	c.change.Lock()
	defer c.change.Unlock()
	c.mu.RLock()
	fresh := maps.Clone(c.quarantined)
	c.mu.RUnlock()
	if _, was := fresh[device]; was == in {
		return
	}
	if fresh == nil {
		fresh = make(map[string]struct{})
	}
	if in {
		fresh[device] = struct{}{}
	} else {
		delete(fresh, device)
	}
	c.requarantine(fresh, func(d string) bool { return d == device })
}

// requarantine puts a new set in force and revokes the principals of devices that
// have changed; c.change is held.
func (c *Credentials) requarantine(set map[string]struct{}, changed func(device string) bool) {
	c.mu.Lock()
	c.quarantined = set
	entries := maps.Clone(c.entries)
	var bare []string
	for name := range c.bare {
		if changed(name) {
			bare = append(bare, name)
		}
	}
	c.mu.Unlock()
	for name, e := range entries {
		if slices.ContainsFunc(e.Devices, changed) {
			entries[name] = newEntry(e.record)
		}
	}
	c.install(entries)
	for _, name := range bare {
		c.dropBare(name)
	}
}

// free makes the principal of a record, without devices in quarantine; c.mu is held.
func (c *Credentials) free(r record) *principal {
	if len(c.quarantined) == 0 {
		return newPrincipal(r.Name, r.Devices)
	}
	return newPrincipal(r.Name, slices.DeleteFunc(slices.Clone(r.Devices), func(d string) bool {
		_, shut := c.quarantined[d]
		return shut
	}))
}

// shut says whether an entry is a device in quarantine.
func (c *Credentials) shut(e *entry) bool {
	return e.Kind == PrincipalDevice && c.inQuarantine(e.Name)
}

func (c *Credentials) inQuarantine(device string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, shut := c.quarantined[device]
	return shut
}

// certified finds the principal that a certificate stands for. A bridge has to have an
// entry, which says what devices it acts for; a device need not, if knows it.
func (c *Credentials) certified(id schemas.Identity, knows func(device string) bool) (*principal, verdict, error) {
	e := c.lookup(id.ID)
	switch {
	case e != nil && id.Kind != "" && string(e.Kind) != string(id.Kind):
		return nil, verdictIdentity, &wrongKind{id, e.Kind}
	case e != nil && c.shut(e):
		return nil, verdictShut, nil
	case e != nil:
		return e.who, verdictOK, nil
	case id.Kind == schemas.IdentityBridge || knows == nil || !knows(id.ID):
		return nil, verdictUnknown, nil
	}
	if p := c.bareDevice(id.ID); p != nil {
		return p, verdictOK, nil
	}
	return nil, verdictShut, nil
}

// wrongKind: the certificate says of what kind its owner is, and the service otherwise.
type wrongKind struct {
	id   schemas.Identity
	kind PrincipalKind
}

func (w *wrongKind) Error() string {
	return "the certificate is that of " + string(w.id.Kind) + " " + w.id.ID + ", and the service knows a " + string(w.kind) + " of that name"
}

// bareDevice is the principal of a device without an entry; nil in quarantine.
func (c *Credentials) bareDevice(device string) *principal {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, shut := c.quarantined[device]; shut {
		return nil
	}
	p := c.bare[device]
	if p == nil {
		if c.bare == nil {
			c.bare = make(map[string]*principal)
		}
		p = newPrincipal(device, []string{device})
		c.bare[device] = p
	}
	return p
}

// dropBare revokes the principal of a device without an entry, if there is one.
func (c *Credentials) dropBare(device string) {
	c.mu.Lock()
	p, onRevoke := c.bare[device], c.onRevoke
	delete(c.bare, device)
	c.mu.Unlock()
	if p == nil {
		return
	}
	p.revoked.Store(true)
	if onRevoke != nil {
		onRevoke(device)
	}
}
