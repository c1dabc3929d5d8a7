package gateway

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"davit/orchestrator"
)

// groupBody is what a group can be set to.
type groupBody struct {
	Description string   `json:"description,omitempty" doc:"Free text of at most 4096 bytes"`
	Devices     []string `json:"devices,omitempty" doc:"The whole list of devices of a static group; they have to exist"`
	Query       string   `json:"query,omitempty" doc:"The query of a dynamic group; a static group stays static"`
}

func (b *groupBody) patch(pre orchestrator.Precondition) orchestrator.GroupPatch {
	p := orchestrator.GroupPatch{Precondition: pre, Description: &b.Description}
	if b.Query != "" {
		p.Query = &b.Query
	}
	if b.Query == "" || b.Devices != nil {
		if b.Devices == nil {
			b.Devices = []string{}
		}
		p.Devices = &b.Devices
	}
	return p
}

type previewQuery struct {
	Query  string `json:"query" doc:"An expression over one device, for example type == \"thermostat\" and online; docs/queries.md explains the language"`
	Sample int    `json:"sample,omitempty" minimum:"0" maximum:"1000" default:"10" doc:"How many of the devices that it finds to return"`
}

func (a *API) groupRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "POST /v1/groups", "create group",
		func(ctx context.Context, in *createOf[orchestrator.NewGroup]) (*created[orchestrator.Group], error) {
			return maker[orchestrator.NewGroup, orchestrator.Group]{
				"create-group", s.CreateGroup, s.Group,
				func(g orchestrator.Group) place { return place{"/v1/groups/" + g.ID, g.Revision} },
			}.answer(ctx, in)
		}, describe("With devices the group is static; with a query it is dynamic: it has the devices that the query finds whenever it is asked."))
	route(a, api, "GET /v1/groups", "list groups",
		func(ctx context.Context, in *PageQuery) (*bodyOf[Page[orchestrator.Group]], error) {
			return listing(s.Groups(ctx, in.page()))
		})
	route(a, api, "GET /v1/groups/{id}", "get group",
		func(ctx context.Context, in *freshID) (*taggedOf[orchestrator.Group], error) {
			g, err := s.Group(ctx, in.ID.ID)
			return fresh(in.Fresh, g, g.Revision, err)
		})
	route(a, api, "GET /v1/groups/{id}/devices", "list group devices",
		func(ctx context.Context, in *idPage) (*bodyOf[Page[orchestrator.Device]], error) {
			return listing(s.GroupDevices(ctx, in.ID.ID, in.page()))
		}, describe("The devices that belong to the group at this moment. A page of a dynamic group may be short, or empty, and still have a next one."))
	route(a, api, "PUT /v1/groups/{id}", "replace group",
		func(ctx context.Context, in *patchOf[groupBody]) (*taggedOf[orchestrator.Group], error) {
			pre, err := in.precondition()
			if err != nil {
				return nil, err
			}
			g, err := s.UpdateGroup(ctx, in.ID.ID, in.Body.patch(pre))
			return tagged(g, g.Revision, err)
		}, describe("Sets the description and the whole list of devices, or the query of a dynamic group. Jobs that exist already keep the devices that they were created with."))
	route(a, api, "DELETE /v1/groups/{id}", "delete group",
		func(ctx context.Context, in *ID) (*nothing, error) {
			return nil, s.DeleteGroup(ctx, in.ID)
		})
	route(a, api, "POST /v1/queries/preview", "preview query",
		func(ctx context.Context, in *bodyOf[previewQuery]) (*bodyOf[orchestrator.QueryPreview], error) {
			return one(s.PreviewQuery(ctx, in.Body.Query, in.Body.Sample))
		}, describe("What a query finds at this moment: how many devices, and the first of them."))
}
