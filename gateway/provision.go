package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"davit/orchestrator"
	"davit/schemas"
)

// Principal is who may connect to the broker: a device for itself, or a bridge
// for several devices.
type Principal struct {
	Name    string
	Bridge  bool
	Devices []string // of a bridge
}

// Credentials keeps the passwords of devices and bridges for the broker. When
// a method returns nil, what it did is on disk and in force. Names are unique
// over devices and bridges.
type Credentials interface {
	// Principal returns the principal of that name, and false if there is none.
	Principal(ctx context.Context, name string) (Principal, bool, error)
	// PutDevice gives a device a new random password and returns it.
	PutDevice(ctx context.Context, device string) (password string, err error)
	// PutBridge gives a bridge a new random password and these devices.
	PutBridge(ctx context.Context, bridge string, devices []string) (password string, err error)
	// Remove takes a principal away and ends its connections; one that is not
	// there is no error.
	Remove(ctx context.Context, name string) error
	// Bridges returns all bridges in the order of their names.
	Bridges(ctx context.Context) ([]Principal, error)
}

// provisioner makes devices and bridges out of two records that no transaction
// spans: the orchestrator's and the broker's credential.
//
// The order is always record first, credential second, both when adding and
// when removing, and every step may be repeated. A crash in between leaves a
// device without a credential (nobody can connect; adding it again finishes the
// job, deleting it works) or a credential without a device (its messages are
// refused as those of an unknown device; deleting it again finishes the job,
// adding the device again replaces the password).
type provisioner struct {
	service     devices
	credentials Credentials
	// mu keeps two requests about the same name apart, and bounds the memory
	// that password hashing takes.
	mu sync.Mutex
}

func (p *provisioner) addDevice(ctx context.Context, n orchestrator.NewDevice) (orchestrator.Device, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	principal, known, err := p.credentials.Principal(ctx, n.ID)
	if err != nil {
		return orchestrator.Device{}, "", err
	}
	if known && principal.Bridge {
		return orchestrator.Device{}, "", fmt.Errorf("%w: %q is the id of a bridge; device and bridge ids share one name space, so choose another", orchestrator.ErrExists, n.ID)
	}
	d, err := p.service.CreateDevice(ctx, n)
	if errors.Is(err, orchestrator.ErrExists) && !known {
		d, err = p.unfinished(ctx, n, err)
	}
	if err != nil {
		return orchestrator.Device{}, "", err
	}
	password, err := p.credentials.PutDevice(ctx, n.ID)
	if err != nil {
		return orchestrator.Device{}, "", fmt.Errorf("device %q is recorded but got no credentials; repeat the request to finish it: %w", n.ID, err)
	}
	return d, password, nil
}

// unfinished returns the record that an attempt to add the same device left
// without a credential, or the error exists.
func (p *provisioner) unfinished(ctx context.Context, n orchestrator.NewDevice, exists error) (orchestrator.Device, error) {
	d, err := p.service.Device(ctx, n.ID)
	if err != nil {
		return d, err
	}
	if d.Type != n.Type || !maps.Equal(d.Labels, n.Labels) {
		return d, exists
	}
	return d, nil
}

func (p *provisioner) removeDevice(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	principal, known, err := p.credentials.Principal(ctx, id)
	if err != nil {
		return err
	}
	known = known && !principal.Bridge
	err = p.service.DeleteDevice(ctx, id)
	if err != nil && !(known && errors.Is(err, orchestrator.ErrNotFound)) {
		return err
	}
	if !known {
		return nil
	}
	if err := p.credentials.Remove(ctx, id); err != nil {
		return fmt.Errorf("device %q is removed but its credentials are not; repeat the request to finish it: %w", id, err)
	}
	return nil
}

func (p *provisioner) rotateDevice(ctx context.Context, id string) (orchestrator.Device, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, err := p.service.Device(ctx, id)
	if err != nil {
		return d, "", err
	}
	password, err := p.credentials.PutDevice(ctx, id)
	return d, password, err
}

func (p *provisioner) addBridge(ctx context.Context, id string, devices []string) (string, error) {
	if err := schemas.ValidateID(id); err != nil {
		return "", fmt.Errorf("%w: bridge id: %w", orchestrator.ErrInvalid, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known, err := p.credentials.Principal(ctx, id)
	if err != nil {
		return "", err
	}
	if known {
		return "", fmt.Errorf("%w: a bridge or device %q; POST /v1/bridges/%s/credentials gives a bridge a new password", orchestrator.ErrExists, id, id)
	}
	_, err = p.service.Device(ctx, id)
	if err == nil {
		return "", fmt.Errorf("%w: %q is the id of a device; device and bridge ids share one name space, so choose another", orchestrator.ErrExists, id)
	}
	if !errors.Is(err, orchestrator.ErrNotFound) {
		return "", err
	}
	if err := p.checkDevices(ctx, devices); err != nil {
		return "", err
	}
	return p.credentials.PutBridge(ctx, id, devices)
}

func (p *provisioner) checkDevices(ctx context.Context, devices []string) error {
	seen := map[string]bool{}
	for _, d := range devices {
		if seen[d] {
			return fmt.Errorf("%w: device %q is named twice", orchestrator.ErrInvalid, d)
		}
		seen[d] = true
		if _, err := p.service.Device(ctx, d); errors.Is(err, orchestrator.ErrNotFound) {
			return fmt.Errorf("%w: there is no device %q; add it before the bridge", orchestrator.ErrInvalid, d)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (p *provisioner) bridge(ctx context.Context, id string) (Bridge, error) {
	principal, known, err := p.credentials.Principal(ctx, id)
	if err != nil {
		return Bridge{}, err
	}
	if !known || !principal.Bridge {
		return Bridge{}, fmt.Errorf("%w: bridge %q", orchestrator.ErrNotFound, id)
	}
	return Bridge{principal.Name, principal.Devices}, nil
}

func (p *provisioner) bridges(ctx context.Context, page orchestrator.Page) ([]Bridge, string, error) {
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
	next := ""
	if len(all) > page.Limit {
		all = all[:page.Limit]
		next = all[len(all)-1].Name
	}
	items := make([]Bridge, 0, len(all))
	for _, b := range all {
		items = append(items, Bridge{b.Name, b.Devices})
	}
	return items, next, nil
}

func (p *provisioner) rotateBridge(ctx context.Context, id string) (Bridge, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, err := p.bridge(ctx, id)
	if err != nil {
		return b, "", err
	}
	password, err := p.credentials.PutBridge(ctx, id, b.Devices)
	return b, password, err
}

func (p *provisioner) removeBridge(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.bridge(ctx, id); err != nil {
		return err
	}
	return p.credentials.Remove(ctx, id)
}
