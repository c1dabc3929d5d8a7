package gateway

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"davit/orchestrator"
)

func (a *API) imageTypeRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "POST /v1/image-types", "create image type",
		func(ctx context.Context, in *createOf[orchestrator.NewImageType]) (*created[orchestrator.ImageType], error) {
			t, err := s.CreateImageType(ctx, in.Body)
			return made("/v1/image-types/"+t.ID, t, err)
		}, describe("An image type is a category of firmware, such as application or bootloader. Its id never changes."))
	route(a, api, "GET /v1/image-types", "list image types",
		func(ctx context.Context, in *PageQuery) (*bodyOf[Page[orchestrator.ImageType]], error) {
			return listing(s.ImageTypes(ctx, in.page()))
		})
	route(a, api, "GET /v1/image-types/{id}", "get image type",
		func(ctx context.Context, in *ID) (*bodyOf[orchestrator.ImageType], error) {
			return one(s.ImageType(ctx, in.ID))
		})
	route(a, api, "PATCH /v1/image-types/{id}", "change image type",
		func(ctx context.Context, in *patchOf[orchestrator.ImageTypePatch]) (*bodyOf[orchestrator.ImageType], error) {
			return one(s.UpdateImageType(ctx, in.ID.ID, in.Body))
		}, describe("Fields that are left out stay as they are."))
	route(a, api, "DELETE /v1/image-types/{id}", "delete image type",
		func(ctx context.Context, in *ID) (*nothing, error) {
			return nil, s.DeleteImageType(ctx, in.ID)
		}, describe("Refused with 409 while a device type or an image uses it."))
}

func (a *API) deviceTypeRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "POST /v1/device-types", "create device type",
		func(ctx context.Context, in *createOf[orchestrator.NewDeviceType]) (*created[orchestrator.DeviceType], error) {
			t, err := s.CreateDeviceType(ctx, in.Body)
			return made("/v1/device-types/"+t.ID, t, err)
		}, describe("A device type is a class of product: the image types that it takes, the protocol of its host MCU (dialect), and its limits. "+
			"Times are written as Go writes them, for example \"90s\"; without one the bridge's default holds."))
	route(a, api, "GET /v1/device-types", "list device types",
		func(ctx context.Context, in *PageQuery) (*bodyOf[Page[orchestrator.DeviceType]], error) {
			return listing(s.DeviceTypes(ctx, in.page()))
		})
	route(a, api, "GET /v1/device-types/{id}", "get device type",
		func(ctx context.Context, in *ID) (*bodyOf[orchestrator.DeviceType], error) {
			return one(s.DeviceType(ctx, in.ID))
		})
	route(a, api, "PATCH /v1/device-types/{id}", "change device type",
		func(ctx context.Context, in *patchOf[orchestrator.DeviceTypePatch]) (*bodyOf[orchestrator.DeviceType], error) {
			return one(s.UpdateDeviceType(ctx, in.ID.ID, in.Body))
		}, describe("Fields that are left out stay as they are; image_types replaces the whole list."))
	route(a, api, "DELETE /v1/device-types/{id}", "delete device type",
		func(ctx context.Context, in *ID) (*nothing, error) {
			return nil, s.DeleteDeviceType(ctx, in.ID)
		}, describe("Refused with 409 while a device or an image uses it."))
}

// groupBody is what a group can be set to.
type groupBody struct {
	Description string   `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Devices     []string `json:"devices" doc:"The whole list of devices; they have to exist"`
}

func (a *API) groupRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "POST /v1/groups", "create group",
		func(ctx context.Context, in *createOf[orchestrator.NewGroup]) (*created[orchestrator.Group], error) {
			g, err := s.CreateGroup(ctx, in.Body)
			return made("/v1/groups/"+g.ID, g, err)
		})
	route(a, api, "GET /v1/groups", "list groups",
		func(ctx context.Context, in *PageQuery) (*bodyOf[Page[orchestrator.Group]], error) {
			return listing(s.Groups(ctx, in.page()))
		})
	route(a, api, "GET /v1/groups/{id}", "get group",
		func(ctx context.Context, in *ID) (*bodyOf[orchestrator.Group], error) {
			return one(s.Group(ctx, in.ID))
		})
	route(a, api, "PUT /v1/groups/{id}", "replace group",
		func(ctx context.Context, in *patchOf[groupBody]) (*bodyOf[orchestrator.Group], error) {
			p := orchestrator.GroupPatch{Description: &in.Body.Description, Devices: &in.Body.Devices}
			return one(s.UpdateGroup(ctx, in.ID.ID, p))
		}, describe("Sets the description and the whole list of devices. Jobs that exist already keep the devices that they were created with."))
	route(a, api, "DELETE /v1/groups/{id}", "delete group",
		func(ctx context.Context, in *ID) (*nothing, error) {
			return nil, s.DeleteGroup(ctx, in.ID)
		})
}
