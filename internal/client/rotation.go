package client

import (
	"context"
	"time"

	"davit/orchestrator"
)

// Login is how the password of a device or bridge stands.
type Login struct {
	PasswordSince time.Time `json:"password_since,omitzero"`
	RotateOrdered time.Time `json:"rotate_ordered_at,omitzero"`
	PendingUntil  time.Time `json:"pending_until,omitzero"`
}

// DeviceView is a device with what other records say of it, and how its password stands;
// Login is nil if it has none.
type DeviceView struct {
	orchestrator.DeviceDetail
	Login *Login `json:"login,omitempty"`
}

// NewRotation orders that passwords be changed by those whose they are.
type NewRotation struct {
	Devices    []string              `json:"devices,omitempty"`
	Bridges    []string              `json:"bridges,omitempty"`
	AllDevices bool                  `json:"all_devices,omitempty"`
	AllBridges bool                  `json:"all_bridges,omitempty"`
	OlderThan  orchestrator.Duration `json:"older_than,omitempty"`
}

// Rotation is how many passwords are to be changed that were not before.
type Rotation struct {
	Ordered int `json:"ordered"`
}

// OrderRotation has devices and bridges change their passwords by themselves.
func (c *Client) OrderRotation(ctx context.Context, n NewRotation) (Rotation, error) {
	return post[Rotation](ctx, c, n, "rotations")
}
