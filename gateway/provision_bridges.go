package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"davit/orchestrator"
	"davit/schemas"
)

// AddBridge gives a bridge a password, which is returned this once, and the
// devices that it acts for, which have to exist.
func (p *Provisioner) AddBridge(ctx context.Context, id string, devices []string) (Bridge, string, error) {
	if err := schemas.ValidateID(id); err != nil {
		return Bridge{}, "", fmt.Errorf("%w: bridge id: %w", orchestrator.ErrInvalid, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known, err := p.credentials.Principal(ctx, id)
	if err != nil {
		return Bridge{}, "", err
	}
	if known {
		return Bridge{}, "", fmt.Errorf("%w: a bridge or device %q; POST /v1/bridges/%s/credentials gives a bridge a new password", orchestrator.ErrExists, id, id)
	}
	_, err = p.service.Device(ctx, id)
	if err == nil {
		return Bridge{}, "", fmt.Errorf("%w: %q is the id of a device; device and bridge ids share one name space, so choose another", orchestrator.ErrExists, id)
	}
	if !errors.Is(err, orchestrator.ErrNotFound) {
		return Bridge{}, "", err
	}
	if err := p.checkDevices(ctx, devices); err != nil {
		return Bridge{}, "", err
	}
	if len(devices) > maxBridgeDevices {
		return Bridge{}, "", tooManyDevices(len(devices))
	}
	b := Bridge{ID: id, Devices: devices}
	password, err := p.credentials.PutBridge(ctx, id, devices)
	if err != nil {
		return b, "", err
	}
	return b, password, p.service.Audit(ctx, "create", orchestrator.KindBridge, id, nil, b)
}

func (p *Provisioner) checkDevices(ctx context.Context, devices []string) error {
	seen := map[string]bool{}
	for _, d := range devices {
		if seen[d] {
			return fmt.Errorf("%w: device %q is named twice", orchestrator.ErrInvalid, d)
		}
		seen[d] = true
		if _, err := p.service.Device(ctx, d); errors.Is(err, orchestrator.ErrNotFound) {
			return fmt.Errorf("%w: there is no device %q; add it first", orchestrator.ErrInvalid, d)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// ChangeBridge changes the devices that a bridge acts for. Its password stays; its
// connections end unless the list is what it was.
func (p *Provisioner) ChangeBridge(ctx context.Context, id string, patch BridgePatch) (Bridge, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, err := p.Bridge(ctx, id)
	if err != nil {
		return before, err
	}
	devices, err := patch.apply(before.Devices)
	if err != nil {
		return before, err
	}
	named := patch.AddDevices
	if patch.Devices != nil {
		named = devices
	}
	if err := p.checkDevices(ctx, named); err != nil {
		return before, err
	}
	if slices.Equal(devices, before.Devices) {
		return before, nil
	}
	if len(devices) > max(maxBridgeDevices, len(before.Devices)) {
		return before, tooManyDevices(len(devices))
	}
	if err := p.credentials.SetBridgeDevices(ctx, id, devices); err != nil {
		return before, err
	}
	before.Login = nil
	after := Bridge{ID: id, Devices: devices}
	return after, p.service.Audit(ctx, "update", orchestrator.KindBridge, id, before, after)
}

// apply returns the list after the change.
func (b BridgePatch) apply(list []string) ([]string, error) {
	if b.Devices != nil {
		if len(b.AddDevices)+len(b.RemoveDevices) > 0 {
			return nil, fmt.Errorf("%w: devices replaces the whole list, so it cannot stand together with add_devices or remove_devices", orchestrator.ErrInvalid)
		}
		list = *b.Devices
	}
	out := []string{}
	for _, d := range list {
		if !slices.Contains(b.RemoveDevices, d) {
			out = append(out, d)
		}
	}
	for _, d := range b.AddDevices {
		if slices.Contains(b.RemoveDevices, d) {
			return nil, fmt.Errorf("%w: device %q is to be added and to be removed; choose one", orchestrator.ErrInvalid, d)
		}
		if !slices.Contains(list, d) {
			out = append(out, d)
		}
	}
	return out, nil
}

func tooManyDevices(n int) error {
	return fmt.Errorf("%w: a bridge acts for at most %d devices, and these would be %d; register another bridge for the rest", orchestrator.ErrInvalid, maxBridgeDevices, n)
}

// Bridge returns a bridge.
func (p *Provisioner) Bridge(ctx context.Context, id string) (Bridge, error) {
	principal, known, err := p.credentials.Principal(ctx, id)
	if err != nil {
		return Bridge{}, err
	}
	if !known || !principal.Bridge {
		return Bridge{}, fmt.Errorf("%w: bridge %q", orchestrator.ErrNotFound, id)
	}
	b := bridgeOf(principal)
	b.Login, err = p.Login(ctx, id)
	return b, err
}

func bridgeOf(p Principal) Bridge {
	if p.Devices == nil {
		p.Devices = []string{}
	}
	return Bridge{ID: p.Name, Devices: p.Devices}
}

// Bridges lists the bridges in the order of their ids.
func (p *Provisioner) Bridges(ctx context.Context, page orchestrator.Page) ([]Bridge, string, error) {
	all, err := p.credentials.Bridges(ctx)
	if err != nil {
		return nil, "", err
	}
	from, _ := slices.BinarySearchFunc(all, page.After, func(b Principal, after string) int {
		if b.Name <= after {
			return -1
		}
		return 1
	})
	all = all[from:]
	limit := page.Limit
	if limit <= 0 {
		limit = orchestrator.DefaultPageLimit
	}
	next := ""
	if len(all) > limit {
		all = all[:limit]
		next = all[len(all)-1].Name
	}
	items := make([]Bridge, 0, len(all))
	for _, b := range all {
		item := bridgeOf(b)
		if item.Login, err = p.Login(ctx, b.Name); err != nil {
			return nil, "", err
		}
		items = append(items, item)
	}
	return items, next, nil
}

// RotateBridge gives a bridge a new password; the old one is refused from now on.
func (p *Provisioner) RotateBridge(ctx context.Context, id string) (Bridge, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, err := p.Bridge(ctx, id)
	if err != nil {
		return b, "", err
	}
	password, err := p.credentials.PutBridge(ctx, id, b.Devices)
	if err != nil {
		return b, "", err
	}
	return b, password, p.service.Audit(ctx, "rotate", orchestrator.KindBridge, id, nil, nil)
}

// RemoveBridge takes a bridge's password away; its devices stay.
func (p *Provisioner) RemoveBridge(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, err := p.Bridge(ctx, id)
	if err != nil {
		return err
	}
	if err := p.credentials.Remove(ctx, id); err != nil {
		return err
	}
	return p.service.Audit(ctx, "delete", orchestrator.KindBridge, id, b, nil)
}
