package gateway

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"davit/gateway/people"
)

// guard lets only those pass to an operation whom the matrix of operations
// (people.Operations) allows it, before anything of the request is read. An
// operation that the matrix does not have makes NewAPI fail.
func (a *API) guard(operation string) func(huma.Context, func(huma.Context)) {
	op, ok := people.OperationByID(operation)
	if !ok {
		a.unlisted = append(a.unlisted, operation)
	}
	return func(ctx huma.Context, next func(huma.Context)) {
		if p := refusal(ctx.Context(), op); p != nil {
			_, w := humago.Unwrap(ctx)
			writeProblem(w, p)
			return
		}
		next(ctx)
	}
}

// refusal is the problem of whoever may not carry out an operation, nil for
// whoever may.
func refusal(ctx context.Context, op people.Operation) *huma.ErrorModel {
	principal, ok := people.PrincipalOf(ctx)
	switch {
	case !ok:
		return newProblem(http.StatusUnauthorized, "This needs somebody who has signed in.")
	case principal.May(op.Scope):
		return nil
	case !principal.Role.Has(op.Scope):
		return newProblem(http.StatusForbidden, fmt.Sprintf("%q takes the scope %s, which the role %s is the first to have; %s has the role %s.",
			op.ID, op.Scope, lowest(op.Scope), principal.User, principal.Role))
	}
	return newProblem(http.StatusForbidden, fmt.Sprintf("%q takes the scope %s, to which this token of %s is not entitled: it is restricted to %s.",
		op.ID, op.Scope, principal.User, scopeList(principal.Scopes)))
}

// lowest is the first role that has a scope.
func lowest(s people.Scope) people.Role {
	roles := people.Roles()
	return roles[slices.IndexFunc(roles, func(r people.Role) bool { return r.Has(s) })]
}

func scopeList(scopes []people.Scope) string {
	text := ""
	for i, s := range scopes {
		if i > 0 {
			text += ", "
		}
		text += string(s)
	}
	return text
}
