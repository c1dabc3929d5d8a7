package people

import (
	"time"
)

// User is somebody who may sign in.
type User struct {
	Name        string    `json:"name" doc:"Unique and never changed: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	DisplayName string    `json:"display_name,omitempty" doc:"For people; the name if left out"`
	Email       string    `json:"email,omitempty" doc:"For people"`
	Role        Role      `json:"role" doc:"viewer, operator, developer or admin; each may do what the one before may"`
	Disabled    bool      `json:"disabled,omitempty" doc:"May not sign in; sessions and tokens are refused"`
	HasPassword bool      `json:"has_password" doc:"May sign in with a password"`
	External    string    `json:"external,omitempty" doc:"The issuer and subject of OpenID Connect that the user signs in with"`
	LockedUntil time.Time `json:"locked_until,omitzero" doc:"Until when signing in is refused after too many wrong passwords; from networks that the user has signed in from before, only wrong passwords from there count"`
	SignedInAt  time.Time `json:"signed_in_at,omitzero" doc:"When the user signed in last"`
	Revision    uint64    `json:"revision" doc:"Counts the edits; the entity tag of the record"`
	CreatedAt   time.Time `json:"created_at" doc:"When it was created"`
}

// NewUser is a user to be created.
type NewUser struct {
	Name        string `json:"name" doc:"Unique and never changed: 1 to 64 characters of A-Z a-z 0-9 . _ -"`
	DisplayName string `json:"display_name,omitempty" doc:"For people; the name if left out"`
	Email       string `json:"email,omitempty" doc:"For people"`
	Role        Role   `json:"role" doc:"viewer, operator, developer or admin"`
	Password    string `json:"password,omitempty" doc:"At least 10 bytes; without one the user cannot sign in and is there to own API tokens"`
}

// UserPatch changes what is not nil.
type UserPatch struct {
	IfRevision  *uint64 `json:"-"`
	DisplayName *string `json:"display_name,omitempty" doc:"For people"`
	Email       *string `json:"email,omitempty" doc:"For people"`
	Role        *Role   `json:"role,omitempty" doc:"viewer, operator, developer or admin; the last admin cannot be demoted"`
	Disabled    *bool   `json:"disabled,omitempty" doc:"true ends all sessions and refuses the tokens; the last admin cannot be disabled"`
	Password    *string `json:"password,omitempty" doc:"A new password; ends all sessions of the user"`
	Unlock      *bool   `json:"unlock,omitempty" doc:"true ends a lock after too many wrong passwords"`
}

// Token is an API token of a user, without its secret.
type Token struct {
	ID        string    `json:"id" doc:"Generated, begins with tok-"`
	Name      string    `json:"name" doc:"What its owner calls it"`
	User      string    `json:"user" doc:"Its owner; the token may never do more than the owner"`
	Scopes    []Scope   `json:"scopes,omitempty" doc:"What it is restricted to; absent if it may do all that its owner may"`
	ExpiresAt time.Time `json:"expires_at" doc:"When it ends"`
	UsedAt    time.Time `json:"used_at,omitzero" doc:"When it was used last, to the hour"`
	CreatedAt time.Time `json:"created_at" doc:"When it was created"`
}

// NewToken is a token to be created.
type NewToken struct {
	Name    string  `json:"name" doc:"What it is for"`
	Scopes  []Scope `json:"scopes,omitempty" doc:"What it is restricted to; without any it may do all that its owner may"`
	Expires string  `json:"expires,omitempty" doc:"How long it is valid, for example 720h; 90 days if left out, at most a year" default:"2160h"`
}

// NewSecret is a token with its secret, which is shown this once.
type NewSecret struct {
	Token
	Secret string `json:"secret" doc:"The bearer token; it is kept nowhere and shown this once"`
}
