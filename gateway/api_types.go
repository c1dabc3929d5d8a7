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
			return maker[orchestrator.NewImageType, orchestrator.ImageType]{
				"create-image-type", s.CreateImageType, s.ImageType,
				func(t orchestrator.ImageType) place { return place{"/v1/image-types/" + t.ID, t.Revision} },
			}.answer(ctx, in)
		}, describe("An image type is a category of firmware, such as application or bootloader. Its id never changes. There can be 100."))
	route(a, api, "GET /v1/image-types", "list image types",
		func(ctx context.Context, in *PageQuery) (*bodyOf[Page[orchestrator.ImageType]], error) {
			return listing(s.ImageTypes(ctx, in.page()))
		})
	route(a, api, "GET /v1/image-types/{id}", "get image type",
		func(ctx context.Context, in *freshID) (*taggedOf[orchestrator.ImageType], error) {
			t, err := s.ImageType(ctx, in.ID.ID)
			return fresh(in.Fresh, t, t.Revision, err)
		})
	route(a, api, "PATCH /v1/image-types/{id}", "change image type",
		func(ctx context.Context, in *patchOf[orchestrator.ImageTypePatch]) (*taggedOf[orchestrator.ImageType], error) {
			var err error
			if in.Body.Precondition, err = in.precondition(); err != nil {
				return nil, err
			}
			t, err := s.UpdateImageType(ctx, in.ID.ID, in.Body)
			return tagged(t, t.Revision, err)
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
			return maker[orchestrator.NewDeviceType, orchestrator.DeviceType]{
				"create-device-type", s.CreateDeviceType, s.DeviceType,
				func(t orchestrator.DeviceType) place { return place{"/v1/device-types/" + t.ID, t.Revision} },
			}.answer(ctx, in)
		}, describe("A device type is a class of product: the image types that it takes, the protocol of its host MCU (dialect), and its limits. "+
			"Times are written as Go writes them, for example \"90s\"; without one the bridge's default holds."))
	route(a, api, "GET /v1/device-types", "list device types",
		func(ctx context.Context, in *PageQuery) (*bodyOf[Page[orchestrator.DeviceType]], error) {
			return listing(s.DeviceTypes(ctx, in.page()))
		})
	route(a, api, "GET /v1/device-types/{id}", "get device type",
		func(ctx context.Context, in *freshID) (*taggedOf[orchestrator.DeviceType], error) {
			t, err := s.DeviceType(ctx, in.ID.ID)
			return fresh(in.Fresh, t, t.Revision, err)
		})
	route(a, api, "PATCH /v1/device-types/{id}", "change device type",
		func(ctx context.Context, in *patchOf[orchestrator.DeviceTypePatch]) (*taggedOf[orchestrator.DeviceType], error) {
			var err error
			if in.Body.Precondition, err = in.precondition(); err != nil {
				return nil, err
			}
			t, err := s.UpdateDeviceType(ctx, in.ID.ID, in.Body)
			return tagged(t, t.Revision, err)
		}, describe("Fields that are left out stay as they are; image_types replaces the whole list."))
	route(a, api, "DELETE /v1/device-types/{id}", "delete device type",
		func(ctx context.Context, in *ID) (*nothing, error) {
			return nil, s.DeleteDeviceType(ctx, in.ID)
		}, describe("Refused with 409 while a device or an image uses it."))
}
