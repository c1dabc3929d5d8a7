package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"davit/broker"
	"davit/gateway"
	"davit/orchestrator"
)

// credentials is the broker's credentials file as the gateway wants it.
type credentials struct{ file *broker.Credentials }

var _ gateway.Credentials = credentials{}

// Principal implements gateway.Credentials.
func (c credentials) Principal(_ context.Context, name string) (gateway.Principal, bool, error) {
	p, ok := c.file.Get(name)
	return principal(p), ok, nil
}

func principal(p broker.Principal) gateway.Principal {
	out := gateway.Principal{Name: p.Name, Bridge: p.Kind == broker.PrincipalBridge}
	if out.Bridge {
		out.Devices = p.Devices
	}
	return out
}

// PutDevice implements gateway.Credentials.
func (c credentials) PutDevice(_ context.Context, device string) (string, error) {
	password, err := c.file.AddDevice(device)
	if errors.Is(err, broker.ErrNameTaken) {
		return c.file.Rotate(device)
	}
	return password, err
}

// PutDevices implements gateway.Credentials.
func (c credentials) PutDevices(ctx context.Context, ids []string) (map[string]string, error) {
	return c.file.PutDevices(ctx, ids)
}

// PutClaimed implements gateway.Credentials.
func (c credentials) PutClaimed(_ context.Context, device string, fresh bool) (string, error) {
	password, err := c.file.PutClaimed(device, fresh)
	if errors.Is(err, broker.ErrNameTaken) {
		err = fmt.Errorf("%w: %w", orchestrator.ErrExists, err)
	}
	return password, err
}

// Login implements gateway.Credentials.
func (c credentials) Login(_ context.Context, name string) (gateway.LoginState, bool, error) {
	l, ok := c.file.Login(name)
	return loginState(l), ok, nil
}

func loginState(l broker.Login) gateway.LoginState {
	return gateway.LoginState{PasswordSince: l.Since, RotateOrdered: l.Ordered, PendingUntil: l.PendingUntil}
}

// Renew implements gateway.Credentials.
func (c credentials) Renew(_ context.Context, name string) (string, time.Time, error) {
	return c.file.Renew(name)
}

// Order implements gateway.Credentials.
func (c credentials) Order(_ context.Context, which func(gateway.Principal, gateway.LoginState) bool) (int, error) {
	return c.file.Order(func(p broker.Principal, l broker.Login) bool { return which(principal(p), loginState(l)) })
}

// Forget implements gateway.Credentials.
func (c credentials) Forget(_ context.Context, device string) error { return c.file.Forget(device) }

// SetQuarantine implements gateway.Credentials.
func (c credentials) SetQuarantine(_ context.Context, device string, in bool) error {
	if in {
		c.file.Quarantine(device)
	} else {
		c.file.Release(device)
	}
	return nil
}

// PutBridge implements gateway.Credentials.
func (c credentials) PutBridge(_ context.Context, bridge string, devices []string) (string, error) {
	password, err := c.file.AddBridge(bridge, devices)
	if !errors.Is(err, broker.ErrNameTaken) {
		return password, err
	}
	if err := c.file.SetBridgeDevices(bridge, devices); err != nil {
		return "", err
	}
	return c.file.Rotate(bridge)
}

// SetBridgeDevices implements gateway.Credentials.
func (c credentials) SetBridgeDevices(_ context.Context, bridge string, devices []string) error {
	return c.file.SetBridgeDevices(bridge, devices)
}

// Remove implements gateway.Credentials.
func (c credentials) Remove(_ context.Context, name string) error {
	err := c.file.Remove(name)
	if errors.Is(err, broker.ErrNoPrincipal) {
		return nil
	}
	return err
}

// Bridges implements gateway.Credentials.
func (c credentials) Bridges(context.Context) ([]gateway.Principal, error) {
	var bridges []gateway.Principal
	for _, p := range c.file.List() {
		if p.Kind == broker.PrincipalBridge {
			bridges = append(bridges, principal(p))
		}
	}
	return bridges, nil
}
