package people

import (
	"context"
	"slices"

	"davit/orchestrator"
)

// Role is what a user is to the service. Each role may do what the ones before
// it may, and more.
type Role string

// The roles, in ascending order.
const (
	RoleViewer    Role = "viewer"    // sees everything but people and the audit log
	RoleOperator  Role = "operator"  // also keeps devices, bridges, claims and groups, and pauses jobs
	RoleDeveloper Role = "developer" // also keeps images, image types and device types, and puts devices in quarantine
	RoleAdmin     Role = "admin"     // also runs jobs, keeps people and reads the audit log
)

// Roles are all roles in ascending order.
func Roles() []Role { return []Role{RoleViewer, RoleOperator, RoleDeveloper, RoleAdmin} }

// Valid says whether the role exists.
func (r Role) Valid() bool { return slices.Contains(Roles(), r) }

// Scope is a part of what can be done. Roles have scopes, and a token can be
// restricted to some.
type Scope string

// The scopes.
const (
	ScopeAccount    Scope = "account"            // one's own name, password and tokens
	ScopeRead       Scope = "read"               // look at everything but people and the audit log
	ScopeDevices    Scope = "devices:write"      // register, import, change and decommission devices and bridges, create and revoke claims
	ScopeGroups     Scope = "groups:write"       // create, change and delete groups
	ScopePause      Scope = "jobs:pause"         // pause a job
	ScopeQuarantine Scope = "devices:quarantine" // shut devices out, and let them in again
	ScopeTypes      Scope = "types:write"        // create, change and delete image types and device types
	ScopeImages     Scope = "images:write"       // upload, change, archive and delete images
	ScopeDownload   Scope = "images:download"    // download images
	ScopeRun        Scope = "jobs:run"           // create, start, resume, retry and cancel jobs
	ScopeAudit      Scope = "audit:read"         // read the audit log
	ScopePeople     Scope = "people:manage"      // users, and everybody's tokens
	ScopeService    Scope = "service:manage"     // how the service's own process runs: the levels of its log
)

// Scopes are all scopes, in the order of the roles that have them first.
func Scopes() []Scope {
	return []Scope{
		ScopeAccount, ScopeRead, ScopeDevices, ScopeGroups, ScopePause, ScopeQuarantine, ScopeTypes, ScopeImages, ScopeDownload,
		ScopeRun, ScopeAudit, ScopePeople, ScopeService,
	}
}

// first is the lowest role that has a scope.
func (s Scope) first() Role {
	switch s {
	case ScopeAccount, ScopeRead:
		return RoleViewer
	case ScopeDevices, ScopeGroups, ScopePause:
		return RoleOperator
	case ScopeQuarantine, ScopeTypes, ScopeImages, ScopeDownload:
		return RoleDeveloper
	}
	return RoleAdmin
}

// Has says whether a role has a scope.
func (r Role) Has(s Scope) bool {
	return r.Valid() && slices.Contains(Scopes(), s) && slices.Index(Roles(), r) >= slices.Index(Roles(), s.first())
}

// Principal is who makes a request.
type Principal struct {
	// User is the user's name; of a token, its owner's.
	User string
	// DisplayName is for people.
	DisplayName string
	Role        Role
	// Token is the id of the token, empty for a session of the console.
	Token string
	// TokenName is what its owner called it.
	TokenName string
	// Restricted tokens have only Scopes, as far as the role has them too.
	Restricted bool
	Scopes     []Scope
}

// May says whether the principal has a scope.
func (p Principal) May(s Scope) bool {
	return p.Role.Has(s) && (!p.Restricted || slices.Contains(p.Scopes, s))
}

// Allowed says whether the principal may carry out an operation.
func (p Principal) Allowed(operation string) bool {
	op, ok := OperationByID(operation)
	return ok && p.May(op.Scope)
}

// Actor is the principal for the audit log.
func (p Principal) Actor(address, request string) orchestrator.Actor {
	a := orchestrator.Actor{Name: p.User, Kind: orchestrator.ActorUser, Role: string(p.Role), Address: address, Request: request}
	if p.Token != "" {
		a.Kind = orchestrator.ActorToken
		if p.TokenName != "" {
			a.Name = p.User + "/" + p.TokenName
		}
	}
	return a
}

type principalKey struct{}

// WithPrincipal notes who makes the request of a context.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalOf returns who makes the request of a context; false if nobody has
// signed in.
func PrincipalOf(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}
