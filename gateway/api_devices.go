package gateway

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"davit/orchestrator"
)

// DeviceCredentials is a device and the credentials that its module connects
// to the broker with. The password is shown this once.
type DeviceCredentials struct {
	Device   orchestrator.Device `json:"device" doc:"The device's record"`
	Username string              `json:"username" doc:"The MQTT user name: the device's id"`
	Password string              `json:"password" doc:"The MQTT password; it is kept nowhere and shown this once"`
}

// Bridge is a program that connects for several devices.
type Bridge struct {
	ID      string   `json:"id" doc:"The bridge's id; devices and bridges share one name space"`
	Devices []string `json:"devices" nullable:"false" doc:"The devices that it acts for"`
}

// BridgeCredentials is a bridge and the credentials that it connects to the
// broker with. The password is shown this once.
type BridgeCredentials struct {
	ID       string   `json:"id" doc:"The bridge's id"`
	Devices  []string `json:"devices" nullable:"false" doc:"The devices that it acts for"`
	Username string   `json:"username" doc:"The MQTT user name: the bridge's id"`
	Password string   `json:"password" doc:"The MQTT password; it is kept nowhere and shown this once"`
}

// newBridge is a bridge to be made known.
type newBridge struct {
	ID      string   `json:"id" doc:"1 to 64 characters of A-Z a-z 0-9 . _ -; no device may have the same"`
	Devices []string `json:"devices" minItems:"1" maxItems:"64" doc:"The devices that the bridge acts for; they have to exist."`
}

func (a *API) deviceRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "POST /v1/devices", "create device",
		func(ctx context.Context, in *createOf[orchestrator.NewDevice]) (*created[DeviceCredentials], error) {
			d, password, err := a.provision.addDevice(ctx, in.Body)
			return made("/v1/devices/"+d.ID, DeviceCredentials{d, d.ID, password}, err)
		}, describe("Makes a device known and gives it credentials for the broker. The password is in this answer only. "+
			"If an earlier attempt broke off half-way, repeating it finishes it."))
	route(a, api, "GET /v1/devices", "list devices",
		func(ctx context.Context, in *PageQuery) (*bodyOf[Page[orchestrator.Device]], error) {
			return listing(s.Devices(ctx, orchestrator.DeviceFilter{}, in.page()))
		})
	route(a, api, "GET /v1/devices/{id}", "get device",
		func(ctx context.Context, in *ID) (*bodyOf[orchestrator.Device], error) {
			return one(s.Device(ctx, in.ID))
		})
	route(a, api, "PATCH /v1/devices/{id}", "change device",
		func(ctx context.Context, in *patchOf[orchestrator.DevicePatch]) (*bodyOf[orchestrator.Device], error) {
			return one(s.UpdateDevice(ctx, in.ID.ID, in.Body))
		}, describe("labels replaces all labels; a field that is left out stays as it is."))
	route(a, api, "DELETE /v1/devices/{id}", "delete device",
		func(ctx context.Context, in *ID) (*nothing, error) {
			return nil, a.provision.removeDevice(ctx, in.ID)
		}, describe("Removes the device and its credentials."))
	route(a, api, "POST /v1/devices/{id}/credentials", "rotate device credentials",
		func(ctx context.Context, in *ID) (*bodyOf[DeviceCredentials], error) {
			d, password, err := a.provision.rotateDevice(ctx, in.ID)
			return one(DeviceCredentials{d, d.ID, password}, err)
		}, describe("Gives the device a new password; the old one is refused from now on."))
	route(a, api, "GET /v1/devices/{id}/executions", "list device executions",
		func(ctx context.Context, in *idPage) (*bodyOf[Page[orchestrator.Execution]], error) {
			return listing(s.DeviceExecutions(ctx, in.ID.ID, in.page()))
		})
}

type idPage struct {
	ID
	PageQuery
}

func (a *API) bridgeRoutes(api huma.API) {
	route(a, api, "POST /v1/bridges", "create bridge",
		func(ctx context.Context, in *createOf[newBridge]) (*created[BridgeCredentials], error) {
			password, err := a.provision.addBridge(ctx, in.Body.ID, in.Body.Devices)
			id := in.Body.ID
			return made("/v1/bridges/"+id, BridgeCredentials{id, in.Body.Devices, id, password}, err)
		}, describe("Gives a bridge credentials for the broker, with which it acts for the named devices. The password is in this answer only."))
	route(a, api, "GET /v1/bridges", "list bridges",
		func(ctx context.Context, in *PageQuery) (*bodyOf[Page[Bridge]], error) {
			return listing(a.provision.bridges(ctx, in.page()))
		})
	route(a, api, "GET /v1/bridges/{id}", "get bridge",
		func(ctx context.Context, in *ID) (*bodyOf[Bridge], error) {
			return one(a.provision.bridge(ctx, in.ID))
		})
	route(a, api, "DELETE /v1/bridges/{id}", "delete bridge",
		func(ctx context.Context, in *ID) (*nothing, error) {
			return nil, a.provision.removeBridge(ctx, in.ID)
		}, describe("Removes the bridge's credentials; its devices stay."))
	route(a, api, "POST /v1/bridges/{id}/credentials", "rotate bridge credentials",
		func(ctx context.Context, in *ID) (*bodyOf[BridgeCredentials], error) {
			b, password, err := a.provision.rotateBridge(ctx, in.ID)
			return one(BridgeCredentials{b.ID, b.Devices, b.ID, password}, err)
		}, describe("Gives the bridge a new password; the old one is refused from now on."))
}
