package orchestrator

import (
	"context"
	"strings"
)

// Actor is who asks for something, for the audit log.
type Actor struct {
	// Name of the user, or of the token; "system" for the service itself.
	Name string `json:"name" doc:"The user; of a token USER/TOKEN; of a module that claims itself claim:ID; system for the service itself"`
	// Kind is user, token, module or system.
	Kind string `json:"kind" doc:"user, token, module (by its claim or its own credentials) or system"`
	// Role that the actor had.
	Role string `json:"role,omitempty" doc:"The role that the actor had"`
	// Address that the request came from.
	Address string `json:"address,omitempty" doc:"Where the request came from"`
	// Request is the id of the request, which answers and logs carry too.
	Request string `json:"request,omitempty" doc:"The id of the request, which answers and logs carry too"`
}

// The kinds of actor.
const (
	ActorUser   = "user"
	ActorToken  = "token"
	ActorModule = "module"
	ActorSystem = "system"
)

// user is the actor's name without that of the token.
func (a Actor) user() string {
	name, _, _ := strings.Cut(a.Name, "/")
	return name
}

type actorKey struct{}

// WithActor says on whose behalf calls with the context are made.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf returns the actor of a context, the service itself if none was said.
func ActorOf(ctx context.Context) Actor {
	if a, ok := ctx.Value(actorKey{}).(Actor); ok {
		return a
	}
	return Actor{Name: ActorSystem, Kind: ActorSystem}
}
