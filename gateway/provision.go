package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"davit/orchestrator"
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
	passwords
	rotations
	// Principal returns the principal of that name, and false if there is none.
	Principal(ctx context.Context, name string) (Principal, bool, error)
	// Bridges returns all bridges in the order of their names.
	Bridges(ctx context.Context) ([]Principal, error)
	// SetBridgeDevices replaces the devices of a bridge, which keeps its password;
	// its connections end, so that it comes back for the new ones.
	SetBridgeDevices(ctx context.Context, bridge string, devices []string) error
	// Remove takes a principal away and ends its connections; one that is not
	// there is no error.
	Remove(ctx context.Context, name string) error
	// Forget removes a device's credentials and takes it out of the lists of all
	// bridges, in one step; a device that is in none of them is no error.
	Forget(ctx context.Context, device string) error
	// SetQuarantine shuts a device out, or lets it in again: nobody is let in as the device,
	// whatever the credentials, its bridges do not act for it, and the connections
	// that did so have ended. It is not on disk: the device's record is what counts, and
	// at a start the broker is told of all that are in quarantine.
	SetQuarantine(ctx context.Context, device string, in bool) error
}

type passwords interface {
	// PutDevice gives a device a new random password and returns it.
	PutDevice(ctx context.Context, device string) (password string, err error)
	// PutDevices does so for many devices, all or none, and returns the passwords
	// by device.
	PutDevices(ctx context.Context, devices []string) (map[string]string, error)
	// PutClaimed gives a device that its module claims a new password. If the device was
	// not made just now (fresh), it is orchestrator.ErrExists when somebody has logged in
	// with the one before, or that was not made for a claim.
	PutClaimed(ctx context.Context, device string, fresh bool) (password string, err error)
	// PutBridge gives a bridge a new random password and these devices.
	PutBridge(ctx context.Context, bridge string, devices []string) (password string, err error)
}

// Provisioner makes devices and bridges out of two records that no transaction
// spans: the orchestrator's and the broker's credential.
//
// The order is always record first, credential second, both when adding and
// when removing, and every step may be repeated. A crash in between leaves a
// device without a credential (nobody can connect; adding it again finishes the
// job, deleting it works) or a credential without a device (its messages are
// refused as those of an unknown device; deleting it again finishes the job,
// adding the device again replaces the password). A device that is deleted leaves
// the lists of bridges too, so that one which gets its id later is not theirs.
//
// What happens to credentials is noted in the audit log, unless the log has it
// already as the creation or deletion of the device's record. A Provisioner is safe
// for concurrent use.
type Provisioner struct {
	service     provisioned
	credentials Credentials
	// mu keeps two requests about the same name apart, and bounds the memory
	// that password hashing takes.
	mu sync.Mutex
}

// provisioned is what a Provisioner needs of the service.
type provisioned interface {
	devices
	claimed
	Audit(ctx context.Context, action, kind, id string, before, after any) error
}

// NewProvisioner returns the provisioner of a service and its broker's
// credentials; everything that adds or removes devices shares one.
func NewProvisioner(s Service, c Credentials) *Provisioner {
	return &Provisioner{service: s, credentials: c}
}

// AddDevice makes a device known and gives it a password, which is returned
// this once. Repeating it finishes an attempt that broke off half-way. If the
// context's idempotency key made the device before, the error is a
// *orchestrator.ReplayedError and comes with the device.
func (p *Provisioner) AddDevice(ctx context.Context, n orchestrator.NewDevice) (orchestrator.Device, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	principal, known, err := p.credentials.Principal(ctx, n.ID)
	if err != nil {
		return orchestrator.Device{}, "", err
	}
	if known && principal.Bridge {
		return orchestrator.Device{}, "", bridgeHasID(n.ID)
	}
	if err := p.forgetOld(ctx, n.ID); err != nil {
		return orchestrator.Device{}, "", err
	}
	d, err := p.service.CreateDevice(ctx, n)
	finishing := err != nil
	if replay, ok := orchestrator.IsReplay(err); ok {
		var gone error
		if d, gone = p.service.Device(ctx, replay.ID); gone != nil || known {
			return d, "", errors.Join(err, gone)
		}
		err = nil
	} else if errors.Is(err, orchestrator.ErrExists) && !known {
		d, err = p.unfinished(ctx, n, err)
	}
	if err != nil {
		return orchestrator.Device{}, "", err
	}
	password, err := p.credentials.PutDevice(ctx, n.ID)
	if err != nil {
		return orchestrator.Device{}, "", fmt.Errorf("device %q is recorded but got no credentials; repeat the request to finish it: %w", n.ID, err)
	}
	if finishing {
		err = p.service.Audit(ctx, "rotate", orchestrator.KindDevice, d.ID, nil, nil)
	}
	return d, password, err
}

func bridgeHasID(id string) error {
	return fmt.Errorf("%w: %q is the id of a bridge; device and bridge ids share one name space, so choose another", orchestrator.ErrExists, id)
}

// forgetOld takes devices that do not exist out of the lists of bridges, where
// a deletion that broke off may have left them.
func (p *Provisioner) forgetOld(ctx context.Context, ids ...string) error {
	listed, err := p.listed(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if !listed[id] {
			continue
		}
		_, err := p.service.Device(ctx, id)
		if errors.Is(err, orchestrator.ErrNotFound) {
			err = p.credentials.Forget(ctx, id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listed are the devices that any bridge acts for.
func (p *Provisioner) listed(ctx context.Context) (map[string]bool, error) {
	bridges, err := p.credentials.Bridges(ctx)
	if err != nil {
		return nil, err
	}
	listed := map[string]bool{}
	for _, b := range bridges {
		for _, d := range b.Devices {
			listed[d] = true
		}
	}
	return listed, nil
}

// unfinished returns the record that an attempt to add the same device left
// without a credential, or the error exists.
func (p *Provisioner) unfinished(ctx context.Context, n orchestrator.NewDevice, exists error) (orchestrator.Device, error) {
	d, err := p.service.Device(ctx, n.ID)
	if err != nil {
		return d, err
	}
	if d.Type != n.Type || !maps.Equal(d.Labels, n.Labels) {
		return d, exists
	}
	return d, nil
}

// RemoveDevice deletes a device with its password, and takes it out of the lists
// of bridges. Repeating it finishes an attempt that broke off half-way.
func (p *Provisioner) RemoveDevice(ctx context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	principal, known, err := p.credentials.Principal(ctx, id)
	if err != nil {
		return err
	}
	known = known && !principal.Bridge
	listed, err := p.listed(ctx)
	if err != nil {
		return err
	}
	err = p.service.DeleteDevice(ctx, id)
	finishing := errors.Is(err, orchestrator.ErrNotFound) && (known || listed[id])
	if err != nil && !finishing {
		return err
	}
	if err := p.credentials.Forget(ctx, id); err != nil {
		return fmt.Errorf("device %q is removed but its credentials are not; repeat the request to finish it: %w", id, err)
	}
	if finishing {
		return p.service.Audit(ctx, "delete", orchestrator.KindDevice, id, nil, nil)
	}
	return nil
}

// QuarantineDevice puts a device in quarantine: its record first, which takes back what
// it was offered, then its connections and its login. Repeating it finishes an attempt
// that broke off half-way.
func (p *Provisioner) QuarantineDevice(ctx context.Context, id, reason string) (orchestrator.Device, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, err := p.service.QuarantineDevice(ctx, id, reason)
	if err != nil {
		return d, err
	}
	if err := p.credentials.SetQuarantine(ctx, id, true); err != nil {
		return d, fmt.Errorf("device %q is offered nothing any more, but may still be connected; repeat the request to finish it: %w", id, err)
	}
	return d, nil
}

// ReleaseDevice ends a device's quarantine: its record first, then its login. Repeating
// it finishes an attempt that broke off half-way.
func (p *Provisioner) ReleaseDevice(ctx context.Context, id string) (orchestrator.Device, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, err := p.service.ReleaseDevice(ctx, id)
	if err != nil {
		return d, err
	}
	return d, p.credentials.SetQuarantine(ctx, id, false)
}

// RotateDevice gives a device a new password; the old one is refused from now on.
func (p *Provisioner) RotateDevice(ctx context.Context, id string) (orchestrator.Device, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, err := p.service.Device(ctx, id)
	if err != nil {
		return d, "", err
	}
	password, err := p.credentials.PutDevice(ctx, id)
	if err != nil {
		return d, "", err
	}
	return d, password, p.service.Audit(ctx, "rotate", orchestrator.KindDevice, id, nil, nil)
}
