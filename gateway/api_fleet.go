package gateway

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"davit/orchestrator"
)

func (a *API) fleetRoutes(api huma.API) {
	s := a.options.Service
	route(a, api, "GET /v1/fleet", "get fleet",
		func(ctx context.Context, _ *nothing) (*bodyOf[orchestrator.FleetSummary], error) {
			return one(s.Fleet(ctx))
		}, describe("The fleet in figures."))
	a.statusRoutes(api)
	a.eventRoutes(api)
}
