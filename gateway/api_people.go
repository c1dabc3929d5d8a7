package gateway

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"davit/gateway/people"
)

// Me is who makes a request.
type Me struct {
	User        string         `json:"user" doc:"The user's name; of a token, its owner's"`
	DisplayName string         `json:"display_name,omitempty" doc:"For people"`
	Role        people.Role    `json:"role" doc:"viewer, operator, developer or admin"`
	Token       string         `json:"token,omitempty" doc:"The id of the token that the request was made with; absent for a session of the console"`
	TokenName   string         `json:"token_name,omitempty" doc:"What its owner calls the token"`
	Scopes      []people.Scope `json:"scopes" nullable:"false" doc:"What can be done: the scopes of the role, as far as the token is not restricted"`
}

// passwordChange changes one's own password.
type passwordChange struct {
	Old string `json:"old" doc:"The password so far"`
	New string `json:"new" doc:"At least 10 characters"`
}

// UserName is the name of a user in a path.
type UserName struct {
	Name string `path:"name" maxLength:"64" doc:"The user's name"`
}

// OwnerQuery says whose tokens are meant.
type OwnerQuery struct {
	User string `query:"user" maxLength:"64" doc:"Whose tokens; absent for one's own. Others' take the scope people:manage; * stands for everybody's in a listing."`
}

type (
	tokensInput struct {
		PageQuery
		OwnerQuery
	}
	tokenInput struct {
		ID
		OwnerQuery
	}
	newTokenInput struct {
		Keyed
		OwnerQuery
		Body people.NewToken
	}
	freshUser struct {
		UserName
		Fresh
	}
	userPatch struct {
		UserName
		Conditional
		Body people.UserPatch
	}
)

func (a *API) peopleRoutes(api huma.API) {
	a.accountRoutes(api)
	a.tokenRoutes(api)
	a.userRoutes(api)
}

func (a *API) accountRoutes(api huma.API) {
	d := a.options.People
	route(a, api, "GET /v1/me", "get me",
		func(ctx context.Context, _ *struct{}) (*bodyOf[Me], error) {
			p, _ := people.PrincipalOf(ctx)
			me := Me{User: p.User, DisplayName: p.DisplayName, Role: p.Role, Token: p.Token, TokenName: p.TokenName, Scopes: []people.Scope{}}
			for _, s := range people.Scopes() {
				if p.May(s) {
					me.Scopes = append(me.Scopes, s)
				}
			}
			return one(me, nil)
		}, describe("Who the request is made by, and what they may do."))
	route(a, api, "POST /v1/me/password", "change own password",
		func(ctx context.Context, in *struct{ Body passwordChange }) (*nothing, error) {
			p, _ := people.PrincipalOf(ctx)
			err := d.ChangePassword(ctx, p.User, in.Body.Old, in.Body.New)
			if problem := signInProblem(err); problem != nil {
				return nil, problem
			}
			return nil, err
		}, describe("Ends all of the user's sessions; tokens stay. A wrong old password counts like one at sign-in: after five the user is locked for a while."))
}

// owner is the user whose tokens a request is about.
func (q OwnerQuery) owner(ctx context.Context, operation string) (string, error) {
	p, _ := people.PrincipalOf(ctx)
	if q.User == "" || q.User == p.User {
		return p.User, nil
	}
	if !p.May(people.ScopePeople) {
		return "", newProblem(http.StatusForbidden, "\""+operation+"\" for somebody else takes the scope "+string(people.ScopePeople)+
			", which the role "+string(lowest(people.ScopePeople))+" is the first to have.")
	}
	return q.User, nil
}

func (a *API) tokenRoutes(api huma.API) {
	d := a.options.People
	route(a, api, "GET /v1/tokens", "list tokens",
		func(ctx context.Context, in *tokensInput) (*bodyOf[Page[people.Token]], error) {
			user, err := in.owner(ctx, "list-tokens")
			if err != nil {
				return nil, err
			}
			if user == "*" {
				user = ""
			}
			return listing(d.Tokens(ctx, user, in.page()))
		}, describe("Without their secrets, in the order of their creation. Expired ones are listed for a week."))
	route(a, api, "POST /v1/tokens", "create token", a.createToken,
		describe("The secret is in this answer and nowhere else: the server keeps its SHA-256 only. When a creation is repeated with the same Idempotency-Key, the secret is absent; revoke the token and create another if it was lost."))
	route(a, api, "DELETE /v1/tokens/{id}", "delete token",
		func(ctx context.Context, in *tokenInput) (*nothing, error) {
			p, _ := people.PrincipalOf(ctx)
			user := p.User
			if p.May(people.ScopePeople) {
				user = "" // anybody's
			}
			if in.User != "" {
				var err error
				if user, err = in.owner(ctx, "delete-token"); err != nil {
					return nil, err
				}
			}
			return nil, d.DeleteToken(ctx, user, in.ID.ID)
		}, describe("Revokes it at once."))
}

func (a *API) createToken(ctx context.Context, in *newTokenInput) (*created[people.NewSecret], error) {
	d := a.options.People
	user, err := in.owner(ctx, "create-token")
	if err != nil {
		return nil, err
	}
	request := struct {
		User string
		people.NewToken
	}{user, in.Body}
	once, err := in.once(ctx, "create-token", request)
	if err != nil {
		return nil, err
	}
	m := maker[people.NewToken, people.NewSecret]{
		operation: "create-token",
		read: func(ctx context.Context, id string) (people.NewSecret, error) {
			t, err := d.Token(ctx, user, id)
			return people.NewSecret{Token: t}, err
		},
		at: func(s people.NewSecret) place { return place{"/v1/tokens/" + s.ID, 1} },
	}
	secret, err := d.CreateToken(once, user, in.Body)
	return m.made(ctx, secret, err)
}

func (a *API) userRoutes(api huma.API) {
	d := a.options.People
	route(a, api, "GET /v1/users", "list users",
		func(ctx context.Context, in *PageQuery) (*bodyOf[Page[people.User]], error) {
			return listing(d.Users(ctx, in.page()))
		})
	route(a, api, "POST /v1/users", "create user", a.createUser,
		describe("Without a password the user cannot sign in and is there to own API tokens. Those who sign in through OpenID Connect are made by that."))
	route(a, api, "GET /v1/users/{name}", "get user",
		func(ctx context.Context, in *freshUser) (*taggedOf[people.User], error) {
			u, err := d.User(ctx, in.Name)
			return fresh(in.Fresh, u, u.Revision, err)
		})
	route(a, api, "PATCH /v1/users/{name}", "change user",
		func(ctx context.Context, in *userPatch) (*taggedOf[people.User], error) {
			when, err := in.precondition()
			if err != nil {
				return nil, err
			}
			in.Body.IfRevision = when.IfRevision
			u, err := d.UpdateUser(ctx, in.Name, in.Body)
			return tagged(u, u.Revision, err)
		}, describe("Fields that are left out stay as they are. Refused with 409 if no admin who can sign in would be left."))
	route(a, api, "DELETE /v1/users/{name}", "delete user",
		func(ctx context.Context, in *UserName) (*nothing, error) {
			return nil, d.DeleteUser(ctx, in.Name)
		}, describe("Ends the user's sessions and revokes the tokens. Refused with 409 if no admin who can sign in would be left."))
}

func (a *API) createUser(ctx context.Context, in *createOf[people.NewUser]) (*created[people.User], error) {
	d := a.options.People
	open := in.Body
	open.Password = "" // a hash of what is compared is kept
	once, err := in.once(ctx, "create-user", open)
	if err != nil {
		return nil, err
	}
	m := maker[people.NewUser, people.User]{
		operation: "create-user", read: d.User,
		at: func(u people.User) place { return place{"/v1/users/" + u.Name, u.Revision} },
	}
	user, err := d.CreateUser(once, in.Body)
	return m.made(ctx, user, err)
}
