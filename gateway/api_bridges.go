package gateway

import (
	"context"

	"github.com/danielgtaylor/huma/v2"
)

// Bridge is a program that connects for several devices.
type Bridge struct {
	ID      string   `json:"id" doc:"The bridge's id; devices and bridges share one name space"`
	Devices []string `json:"devices" nullable:"false" doc:"The devices that it acts for"`
	// Login is nil where it is not asked for.
	Login *LoginState `json:"login,omitempty" doc:"How its password stands"`
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

// maxBridgeDevices is how many devices one bridge may act for.
const maxBridgeDevices = 64

// BridgePatch changes the list of devices that a bridge acts for: the whole list,
// or single devices of whatever list there is. What is so already is no error.
type BridgePatch struct {
	Devices       *[]string `json:"devices,omitempty" maxItems:"64" doc:"Replaces the whole list; the devices have to exist. With an empty list the bridge acts for nobody, but keeps its password."`
	AddDevices    []string  `json:"add_devices,omitempty" maxItems:"64" doc:"Devices to add to the list; they have to exist. Not together with devices."`
	RemoveDevices []string  `json:"remove_devices,omitempty" maxItems:"1000" doc:"Devices to take off the list; they stay registered. Not together with devices."`
}

type bridgePatch struct {
	ID
	Body BridgePatch
}

// bridgeCreated is the answer to the creation of a bridge, which has no
// revision.
type bridgeCreated struct {
	Location string `header:"Location" doc:"The path of what was created."`
	Body     BridgeCredentials
}

func (a *API) bridgeRoutes(api huma.API) {
	route(a, api, "POST /v1/bridges", "create bridge",
		func(ctx context.Context, in *bodyOf[newBridge]) (*bridgeCreated, error) {
			b, password, err := a.provision.AddBridge(ctx, in.Body.ID, in.Body.Devices)
			if err != nil {
				return nil, err
			}
			return &bridgeCreated{"/v1/bridges/" + b.ID, BridgeCredentials{b.ID, b.Devices, b.ID, password}}, nil
		}, describe("Gives a bridge credentials for the broker, with which it acts for the named devices. The password is in this answer only. "+
			"There is no Idempotency-Key, because a bridge is no record: if the answer was lost, a repetition is refused with 409, and rotating the credentials gives a new password."))
	route(a, api, "GET /v1/bridges", "list bridges",
		func(ctx context.Context, in *PageQuery) (*bodyOf[Page[Bridge]], error) {
			return listing(a.provision.Bridges(ctx, in.page()))
		})
	route(a, api, "GET /v1/bridges/{id}", "get bridge",
		func(ctx context.Context, in *ID) (*bodyOf[Bridge], error) {
			return one(a.provision.Bridge(ctx, in.ID))
		})
	route(a, api, "PATCH /v1/bridges/{id}", "change bridge",
		func(ctx context.Context, in *bridgePatch) (*bodyOf[Bridge], error) {
			return one(a.provision.ChangeBridge(ctx, in.ID.ID, in.Body))
		}, describe("Changes the devices that the bridge acts for. Its password stays; its connections end, so that it comes back for the devices of the new list, and what was on its way goes on then. "+
			"A bridge is no record and has neither revision nor ETag: the last change wins. When several change the same bridge, use add_devices and remove_devices, which are applied to the list as it is at that moment."))
	route(a, api, "DELETE /v1/bridges/{id}", "delete bridge",
		func(ctx context.Context, in *ID) (*nothing, error) {
			return nil, a.provision.RemoveBridge(ctx, in.ID)
		}, describe("Removes the bridge's credentials; its devices stay."))
	route(a, api, "POST /v1/bridges/{id}/credentials", "rotate bridge credentials",
		func(ctx context.Context, in *ID) (*bodyOf[BridgeCredentials], error) {
			b, password, err := a.provision.RotateBridge(ctx, in.ID)
			return one(BridgeCredentials{b.ID, b.Devices, b.ID, password}, err)
		}, describe("Gives the bridge a new password; the old one is refused from now on."))
}
