package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"davit/orchestrator"
)

// Listing is one of the client's listings, such as Client.Devices.
type Listing[T any] func(context.Context, orchestrator.Page) ([]T, string, error)

// All goes through a whole listing, a page at a time, and ends at the first
// error, which it yields.
func All[T any](ctx context.Context, l Listing[T]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		p := orchestrator.Page{Limit: orchestrator.MaxPageLimit}
		for {
			items, next, err := l(ctx, p)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, v := range items {
				if !yield(v, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			p.After = next
		}
	}
}

// CreateImageType makes an image type known.
func (c *Client) CreateImageType(ctx context.Context, n orchestrator.NewImageType) (orchestrator.ImageType, error) {
	return post[orchestrator.ImageType](ctx, c, n, "image-types")
}

// UpdateImageType changes what is not nil.
func (c *Client) UpdateImageType(ctx context.Context, id string, p orchestrator.ImageTypePatch) (orchestrator.ImageType, error) {
	return patch[orchestrator.ImageType](ctx, c, p, p.Precondition, "image-types", id)
}

// DeleteImageType removes an image type that nothing uses.
func (c *Client) DeleteImageType(ctx context.Context, id string) error {
	return c.remove(ctx, "image-types", id)
}

// ImageType returns an image type.
func (c *Client) ImageType(ctx context.Context, id string) (orchestrator.ImageType, error) {
	return get[orchestrator.ImageType](ctx, c, "image-types", id)
}

// ImageTypes lists the image types.
func (c *Client) ImageTypes(ctx context.Context, p orchestrator.Page) ([]orchestrator.ImageType, string, error) {
	return list[orchestrator.ImageType](ctx, c, p, nil, "image-types")
}

// CreateDeviceType makes a device type known.
func (c *Client) CreateDeviceType(ctx context.Context, n orchestrator.NewDeviceType) (orchestrator.DeviceType, error) {
	return post[orchestrator.DeviceType](ctx, c, n, "device-types")
}

// UpdateDeviceType changes what is not nil.
func (c *Client) UpdateDeviceType(ctx context.Context, id string, p orchestrator.DeviceTypePatch) (orchestrator.DeviceType, error) {
	return patch[orchestrator.DeviceType](ctx, c, p, p.Precondition, "device-types", id)
}

// DeleteDeviceType removes a device type that nothing uses.
func (c *Client) DeleteDeviceType(ctx context.Context, id string) error {
	return c.remove(ctx, "device-types", id)
}

// DeviceType returns a device type.
func (c *Client) DeviceType(ctx context.Context, id string) (orchestrator.DeviceType, error) {
	return get[orchestrator.DeviceType](ctx, c, "device-types", id)
}

// DeviceTypes lists the device types.
func (c *Client) DeviceTypes(ctx context.Context, p orchestrator.Page) ([]orchestrator.DeviceType, string, error) {
	return list[orchestrator.DeviceType](ctx, c, p, nil, "device-types")
}

// DeviceCredentials is a device and what its module connects to the broker
// with. The password is told this once.
type DeviceCredentials struct {
	Device   orchestrator.Device `json:"device"`
	Username string              `json:"username"`
	Password string              `json:"password,omitempty"`
	// Note says why there is no password and how to get one.
	Note string `json:"note,omitempty"`
}

// CreateDevice makes a device known and gives it credentials. If it failed
// half-way, it may be called again.
func (c *Client) CreateDevice(ctx context.Context, n orchestrator.NewDevice) (DeviceCredentials, error) {
	return post[DeviceCredentials](ctx, c, n, "devices")
}

// RotateCredentials gives a device a new password; the old one ends at once.
func (c *Client) RotateCredentials(ctx context.Context, device string) (DeviceCredentials, error) {
	return post[DeviceCredentials](ctx, c, nil, "devices", device, "credentials")
}

// UpdateDevice changes what is not nil.
func (c *Client) UpdateDevice(ctx context.Context, id string, p orchestrator.DevicePatch) (orchestrator.Device, error) {
	return patch[orchestrator.Device](ctx, c, p, p.Precondition, "devices", id)
}

// DeleteDevice removes a device and its credentials.
func (c *Client) DeleteDevice(ctx context.Context, id string) error {
	return c.remove(ctx, "devices", id)
}

// QuarantineDevice shuts a device out until it is released.
func (c *Client) QuarantineDevice(ctx context.Context, id, reason string) (orchestrator.Device, error) {
	return post[orchestrator.Device](ctx, c, orchestrator.QuarantineRequest{Reason: reason}, "devices", id, "quarantine")
}

// ReleaseDevice ends the quarantine of a device.
func (c *Client) ReleaseDevice(ctx context.Context, id string) (orchestrator.Device, error) {
	return post[orchestrator.Device](ctx, c, nil, "devices", id, "release")
}

// Device returns a device.
func (c *Client) Device(ctx context.Context, id string) (orchestrator.Device, error) {
	return get[orchestrator.Device](ctx, c, "devices", id)
}

// DeviceDetail returns a device with what other records say of it.
func (c *Client) DeviceDetail(ctx context.Context, id string) (DeviceView, error) {
	return get[DeviceView](ctx, c, "devices", id)
}

// Devices lists the devices that pass the filter, with what other records say of
// each.
func (c *Client) Devices(ctx context.Context, f orchestrator.DeviceFilter, p orchestrator.Page) ([]DeviceView, string, error) {
	query := set(url.Values{}, "type", f.Type, "group", f.Group, "text", f.Text, "label", f.Label, "version", f.Version, "query", f.Query)
	if f.Online != nil {
		query.Set("online", strconv.FormatBool(*f.Online))
	}
	return list[DeviceView](ctx, c, p, query, "devices")
}

// DeviceExecutions lists the executions of a device.
func (c *Client) DeviceExecutions(ctx context.Context, id string, p orchestrator.Page) ([]orchestrator.Execution, string, error) {
	return list[orchestrator.Execution](ctx, c, p, nil, "devices", id, "executions")
}

// Bridge is a program that connects for several devices. Username and Password
// are told only when it is created and when its password is rotated.
type Bridge struct {
	ID       string   `json:"id"`
	Devices  []string `json:"devices"`
	Username string   `json:"username,omitempty"`
	Password string   `json:"password,omitempty"`
	Note     string   `json:"note,omitempty"`
	Login    *Login   `json:"login,omitempty"`
}

// CreateBridge gives a bridge credentials with which it acts for devices.
func (c *Client) CreateBridge(ctx context.Context, id string, devices []string) (Bridge, error) {
	return post[Bridge](ctx, c, Bridge{ID: id, Devices: devices}, "bridges")
}

// BridgePatch changes which devices a bridge acts for: all of them, or some.
type BridgePatch struct {
	Devices       *[]string `json:"devices,omitempty"`
	AddDevices    []string  `json:"add_devices,omitempty"`
	RemoveDevices []string  `json:"remove_devices,omitempty"`
}

// ChangeBridge changes which devices a bridge acts for; its password stays. A
// bridge has no revision: the last change wins, and additions and removals are
// made to the list as it is then.
func (c *Client) ChangeBridge(ctx context.Context, id string, p BridgePatch) (Bridge, error) {
	return patch[Bridge](ctx, c, p, orchestrator.Precondition{}, "bridges", id)
}

// RotateBridge gives a bridge a new password; the old one ends at once.
func (c *Client) RotateBridge(ctx context.Context, id string) (Bridge, error) {
	return post[Bridge](ctx, c, nil, "bridges", id, "credentials")
}

// DeleteBridge removes a bridge's credentials.
func (c *Client) DeleteBridge(ctx context.Context, id string) error {
	return c.remove(ctx, "bridges", id)
}

// Bridge returns a bridge.
func (c *Client) Bridge(ctx context.Context, id string) (Bridge, error) {
	return get[Bridge](ctx, c, "bridges", id)
}

// Bridges lists the bridges.
func (c *Client) Bridges(ctx context.Context, p orchestrator.Page) ([]Bridge, string, error) {
	return list[Bridge](ctx, c, p, nil, "bridges")
}

// CreateGroup makes a group.
func (c *Client) CreateGroup(ctx context.Context, n orchestrator.NewGroup) (orchestrator.Group, error) {
	return post[orchestrator.Group](ctx, c, n, "groups")
}

// ReplaceGroup sets a group's description and its devices, or its query if it
// is dynamic; nil stands for nothing.
func (c *Client) ReplaceGroup(ctx context.Context, id string, p orchestrator.GroupPatch) (orchestrator.Group, error) {
	return call[orchestrator.Group](ctx, c, request{method: http.MethodPut, path: []string{"groups", id}, body: p, revision: p.IfRevision})
}

// DeleteGroup removes a group.
func (c *Client) DeleteGroup(ctx context.Context, id string) error {
	return c.remove(ctx, "groups", id)
}

// Group returns a group.
func (c *Client) Group(ctx context.Context, id string) (orchestrator.Group, error) {
	return get[orchestrator.Group](ctx, c, "groups", id)
}

// Groups lists the groups.
func (c *Client) Groups(ctx context.Context, p orchestrator.Page) ([]orchestrator.Group, string, error) {
	return list[orchestrator.Group](ctx, c, p, nil, "groups")
}

// GroupDevices lists the devices that a group has now.
func (c *Client) GroupDevices(ctx context.Context, id string, p orchestrator.Page) ([]orchestrator.Device, string, error) {
	return list[orchestrator.Device](ctx, c, p, nil, "groups", id, "devices")
}

// PreviewQuery says what a query finds at this moment, with at most sample of
// the devices.
func (c *Client) PreviewQuery(ctx context.Context, query string, sample int) (orchestrator.QueryPreview, error) {
	body := struct {
		Query  string `json:"query"`
		Sample int    `json:"sample"`
	}{query, sample}
	return post[orchestrator.QueryPreview](ctx, c, body, "queries", "preview")
}

// Fleet returns the fleet in figures.
func (c *Client) Fleet(ctx context.Context) (orchestrator.FleetSummary, error) {
	return get[orchestrator.FleetSummary](ctx, c, "fleet")
}

// Status returns how the service stands.
func (c *Client) Status(ctx context.Context) (ServiceStatus, error) {
	return get[ServiceStatus](ctx, c, "status")
}

// set adds those of the pairs of names and values whose value is not empty.
func set(query url.Values, pairs ...string) url.Values {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
	return query
}
