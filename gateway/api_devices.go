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
	Password string              `json:"password,omitempty" doc:"The MQTT password; it is kept nowhere and shown this once"`
	Note     string              `json:"note,omitempty" doc:"Why there is no password, and how to get one"`
}

// DeviceView is a device with what other records say of it, and how its password stands.
type DeviceView struct {
	orchestrator.DeviceDetail
	Login *LoginState `json:"login,omitempty" doc:"How its password stands; absent if it has none"`
}

func (a *API) viewDevice(ctx context.Context, d orchestrator.DeviceDetail) (DeviceView, error) {
	l, err := a.provision.Login(ctx, d.ID)
	return DeviceView{d, l}, err
}

type devicesInput struct {
	PageQuery
	Type    string `query:"type" maxLength:"64" doc:"Only devices of this device type."`
	Group   string `query:"group" maxLength:"64" doc:"Only devices that belong to this group."`
	Text    string `query:"text" maxLength:"256" doc:"Only devices with this in the id or a label, whatever the case."`
	Label   string `query:"label" maxLength:"512" doc:"Only devices with this label: NAME or NAME=VALUE."`
	Version string `query:"version" maxLength:"512" doc:"Only devices that report this version: IMAGE_TYPE=VERSION."`
	Online  string `query:"online" enum:"true,false" doc:"Only devices that are connected, or only those that are not."`
	Query   string `query:"query" maxLength:"8192" doc:"Only devices that this query finds; docs/queries.md explains the language."`
}

func (in *devicesInput) filter() orchestrator.DeviceFilter {
	f := orchestrator.DeviceFilter{Type: in.Type, Group: in.Group, Text: in.Text, Label: in.Label, Version: in.Version, Query: in.Query}
	if in.Online != "" {
		online := in.Online == "true"
		f.Online = &online
	}
	return f
}

type idPage struct {
	ID
	PageQuery
}

type quarantineInput struct {
	ID
	Body *orchestrator.QuarantineRequest
}

// partial explains pages of listings with filters.
const partial = "Filters can be combined; a page may then be short, or empty, and still have a next one, because each page looks at a bounded part of the records."

func (a *API) deviceRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "POST /v1/devices", "create device", a.createDevice,
		describe("Makes a device known and gives it credentials for the broker. The password is in this answer only. "+
			"If an earlier attempt broke off half-way, repeating it finishes it."))
	route(a, api, "GET /v1/devices", "list devices",
		func(ctx context.Context, in *devicesInput) (*bodyOf[Page[DeviceView]], error) {
			items, next, err := s.DeviceDetails(ctx, in.filter(), in.page())
			views := make([]DeviceView, len(items))
			for i, d := range items {
				if views[i], err = a.viewDevice(ctx, d); err != nil {
					return nil, err
				}
			}
			return listing(views, next, err)
		}, describe("With what is under way on each device, the groups that it belongs to and whether it is silent. "+partial))
	route(a, api, "GET /v1/devices/{id}", "get device",
		func(ctx context.Context, in *ID) (*taggedOf[DeviceView], error) {
			d, err := s.DeviceDetail(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			v, err := a.viewDevice(ctx, d)
			return tagged(v, d.Revision, err)
		}, describe("The ETag is for edits only: what the device reports changes without it, so If-None-Match is not honoured."))
	route(a, api, "PATCH /v1/devices/{id}", "change device",
		func(ctx context.Context, in *patchOf[orchestrator.DevicePatch]) (*taggedOf[orchestrator.Device], error) {
			var err error
			if in.Body.Precondition, err = in.precondition(); err != nil {
				return nil, err
			}
			d, err := s.UpdateDevice(ctx, in.ID.ID, in.Body)
			return tagged(d, d.Revision, err)
		}, describe("labels replaces all labels; a field that is left out stays as it is."))
	route(a, api, "DELETE /v1/devices/{id}", "delete device",
		func(ctx context.Context, in *ID) (*nothing, error) {
			return nil, a.provision.RemoveDevice(ctx, in.ID)
		}, describe("Removes the device and its credentials, and takes it out of the lists of bridges."))
	route(a, api, "POST /v1/devices/{id}/credentials", "rotate device credentials",
		func(ctx context.Context, in *ID) (*bodyOf[DeviceCredentials], error) {
			d, password, err := a.provision.RotateDevice(ctx, in.ID)
			return one(DeviceCredentials{Device: d, Username: d.ID, Password: password}, err)
		}, describe("Gives the device a new password; the old one is refused from now on."))
	route(a, api, "POST /v1/rotations", "order rotation",
		func(ctx context.Context, in *bodyOf[NewRotation]) (*bodyOf[Rotation], error) {
			return one(a.provision.OrderRotation(ctx, in.Body))
		}, describe("Orders that devices and bridges change their passwords by themselves: those that are connected are told at once, the others when they come, and each until it has logged in with another password. "+
			"Until then its password stays good. Modules that do not know of this stay as they are; the lists show which passwords are still to be changed."))
	route(a, api, "POST /v1/devices/{id}/quarantine", "quarantine device",
		func(ctx context.Context, in *quarantineInput) (*bodyOf[orchestrator.Device], error) {
			return one(a.provision.QuarantineDevice(ctx, in.ID.ID, orZero(in.Body).Reason))
		}, describe("Shuts the device out until it is released: its connections end at once, nobody can log in as the device and its bridges lose it, what it was offered or works on goes back to the queue, "+
			"and it may fetch nothing. Over a broker that is not the service's own, connections and logins are that broker's to end."))
	route(a, api, "POST /v1/devices/{id}/release", "release device",
		func(ctx context.Context, in *ID) (*bodyOf[orchestrator.Device], error) {
			return one(a.provision.ReleaseDevice(ctx, in.ID))
		}, describe("Ends the quarantine of a device. What waits for it is offered again."))
	route(a, api, "GET /v1/devices/{id}/executions", "list device executions",
		func(ctx context.Context, in *idPage) (*bodyOf[Page[orchestrator.Execution]], error) {
			return listing(s.DeviceExecutions(ctx, in.ID.ID, in.page()))
		})
}

func (a *API) createDevice(ctx context.Context, in *createOf[orchestrator.NewDevice]) (*created[DeviceCredentials], error) {
	return maker[orchestrator.NewDevice, DeviceCredentials]{
		"create-device",
		func(ctx context.Context, n orchestrator.NewDevice) (DeviceCredentials, error) {
			d, password, err := a.provision.AddDevice(ctx, n)
			return DeviceCredentials{Device: d, Username: d.ID, Password: password}, err
		},
		func(ctx context.Context, id string) (DeviceCredentials, error) {
			d, err := a.options.Service.Device(ctx, id)
			return DeviceCredentials{Device: d, Username: d.ID,
				Note: "The password was shown in the first answer and is kept nowhere. POST /v1/devices/" + id + "/credentials gives the device a new one."}, err
		},
		func(c DeviceCredentials) place { return place{"/v1/devices/" + c.Device.ID, c.Device.Revision} },
	}.answer(ctx, in)
}
