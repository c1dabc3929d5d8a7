package gateway_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"davit/gateway"
	"davit/gateway/people"
	"davit/internal/secrettest"
	"davit/orchestrator/memstore"
)

var updateRoles = flag.Bool("update-roles", false, "write docs/roles.md anew")

// endpoint is where the API offers an operation.
type endpoint struct{ method, path string }

// endpoints reads from the API's own document where operations are.
func endpoints(t *testing.T, api *apiRig) map[string]endpoint {
	t.Helper()
	a := api.must("GET /openapi.json", "")
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
		t.Fatal(err)
	}
	found := map[string]endpoint{}
	for path, methods := range doc.Paths {
		for method, b := range methods {
			var op struct{ OperationID string }
			if err := json.Unmarshal(b, &op); err != nil {
				continue // parameters that all methods of a path share
			}
			found[op.OperationID] = endpoint{strings.ToUpper(method), path}
		}
	}
	return found
}

// caller is somebody who tries every operation.
type caller struct {
	name   string
	status int // of what they may not do
	may    func(people.Operation) bool
	sign   func(*http.Request)
}

// peopleRig is the API with a directory whose clock the test moves.
func peopleRig(t *testing.T) (*apiRig, *people.Directory, *atomic.Int64) {
	t.Helper()
	past := new(atomic.Int64)
	var directory *people.Directory
	r := newAPI(t, func(o *gateway.APIOptions) {
		var err error
		limits := people.Limits{PerAddress: 1e9, Burst: 1e6, Overall: 1e9, OverallBurst: 1e6}
		directory, err = people.New(people.Options{
			Store: memstore.New(), AdminToken: adminToken, Log: o.Log, Hashing: cheapHashing(), Limits: &limits, OnSignIn: o.Metrics.SignIn,
			Now: func() time.Time { return time.Now().Add(-time.Duration(past.Load())) },
		})
		if err != nil {
			t.Fatal(err)
		}
		o.People = directory
	})
	return r, directory, past
}

const userPassword = secrettest.Mark + "user"

// callers makes a user of each role, and the others of the matrix.
func callers(t *testing.T, d *people.Directory, past *atomic.Int64) []caller {
	t.Helper()
	bearer := func(token string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	}
	token := func(user, expires string, scopes ...people.Scope) string {
		made, err := d.CreateToken(t.Context(), user, people.NewToken{Name: "test", Scopes: scopes, Expires: expires})
		if err != nil {
			t.Fatal(err)
		}
		return made.Secret
	}
	nothing := func(people.Operation) bool { return false }
	var all []caller
	for _, role := range people.Roles() {
		name := "a-" + string(role)
		if _, err := d.CreateUser(t.Context(), people.NewUser{Name: name, Role: role, Password: userPassword}); err != nil {
			t.Fatal(err)
		}
		session, err := d.SignIn(t.Context(), name, userPassword, "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, caller{string(role), http.StatusForbidden, func(op people.Operation) bool { return role.Has(op.Scope) }, func(r *http.Request) {
			r.AddCookie(&http.Cookie{Name: "davit", Value: session.Token})
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		}})
	}
	scopes := []people.Scope{people.ScopeRead, people.ScopePause}
	past.Store(int64(2 * time.Hour))
	expired := token("a-admin", "1h")
	past.Store(0)
	if _, err := d.CreateUser(t.Context(), people.NewUser{Name: "gone", Role: people.RoleAdmin}); err != nil {
		t.Fatal(err)
	}
	disabled, yes := token("gone", ""), true
	if _, err := d.UpdateUser(t.Context(), "gone", people.UserPatch{Disabled: &yes}); err != nil {
		t.Fatal(err)
	}
	return append(all,
		caller{"token: read, jobs:pause", http.StatusForbidden, func(op people.Operation) bool { return slices.Contains(scopes, op.Scope) }, bearer(token("a-admin", "", scopes...))},
		caller{"admin.token", http.StatusForbidden, func(people.Operation) bool { return true }, bearer(adminToken)},
		caller{"expired token", http.StatusUnauthorized, nothing, bearer(expired)},
		caller{"disabled user", http.StatusUnauthorized, nothing, bearer(disabled)},
		caller{"nobody", http.StatusUnauthorized, nothing, func(*http.Request) {}},
	)
}

// TestRoleMatrix makes a real request for every operation and everybody: refused with
// 403 or 401 exactly when the matrix of operations says so. -v prints what came out.
func TestRoleMatrix(t *testing.T) {
	r, d, past := peopleRig(t)
	at := endpoints(t, r)
	all := callers(t, d, past)
	var table strings.Builder
	fmt.Fprintf(&table, "%-28s", "operation")
	for _, c := range all {
		fmt.Fprintf(&table, " %10.10s", c.name)
	}
	for _, op := range people.Operations() {
		where, ok := at[op.ID]
		if !ok {
			t.Errorf("the API does not offer %s", op.ID)
			continue
		}
		delete(at, op.ID)
		fmt.Fprintf(&table, "\n%-28s", op.ID)
		for _, c := range all {
			status, detail := r.attempt(t, where, c)
			refused := status == http.StatusForbidden || status == http.StatusUnauthorized
			if may := c.may(op); may == refused || !may && status != c.status {
				t.Errorf("%s by %s: %d, but the matrix says %v", op.ID, c.name, status, may)
			}
			if status >= 500 {
				t.Errorf("%s by %s: %d %s", op.ID, c.name, status, detail)
			}
			if status == http.StatusForbidden && !strings.Contains(detail, string(op.Scope)) {
				t.Errorf("%s by %s: the refusal does not name the scope %s: %s", op.ID, c.name, op.Scope, detail)
			}
			word := "yes"
			if refused {
				word = fmt.Sprint("- ", status)
			}
			fmt.Fprintf(&table, " %10s", word)
		}
	}
	for id := range at {
		t.Errorf("the API offers %s, which is not in the matrix", id)
	}
	t.Logf("who may do what, as the API answered:\n%s", table.String())
}

// attempt tries an operation on something that does not exist, with an empty body.
func (r *apiRig) attempt(t *testing.T, where endpoint, c caller) (int, string) {
	t.Helper()
	path := where.path
	for strings.Contains(path, "{") {
		before, rest, _ := strings.Cut(path, "{")
		_, after, _ := strings.Cut(rest, "}")
		path = before + "not-there" + after
	}
	var body string
	if where.method == http.MethodPost || where.method == http.MethodPut || where.method == http.MethodPatch {
		body = "{}"
	}
	req, err := http.NewRequestWithContext(t.Context(), where.method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	c.sign(req)
	resp, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var problem struct{ Detail string }
	if resp.Header.Get("Content-Type") == "application/problem+json" { // a stream of events has no end
		if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
			t.Errorf("%s %s: %v", where.method, path, err)
		}
	}
	return resp.StatusCode, problem.Detail
}

// TestRolesAreDocumented compares docs/roles.md with the matrix of operations. After a
// change of that: go test ./gateway -run RolesAreDocumented -update-roles
func TestRolesAreDocumented(t *testing.T) {
	const path = "../docs/roles.md"
	want := rolesDocument()
	if *updateRoles {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date; run: go test ./gateway -run RolesAreDocumented -update-roles", path)
	}
}

func rolesDocument() string {
	var b strings.Builder
	b.WriteString(`# Who may do what

This page is generated from gateway/people/operations.go, and a test makes every request below as
everybody: go test ./gateway -run RoleMatrix -v

A user has one role; each role may do what the ones before it may, and more. An API token does what its owner
may do, or less if it is restricted to some scopes. The token in the data folder's admin.token acts as an admin.

| operation | scope`)
	for _, role := range people.Roles() {
		fmt.Fprintf(&b, " | %s", role)
	}
	b.WriteString(" | console | command line |\n|---|---" + strings.Repeat("|:-:", len(people.Roles())) + "|---|---|\n")
	for _, op := range people.Operations() {
		fmt.Fprintf(&b, "| %s | %s", op.ID, op.Scope)
		for _, role := range people.Roles() {
			mark := ""
			if role.Has(op.Scope) {
				mark = "yes"
			}
			fmt.Fprintf(&b, " | %s", mark)
		}
		fmt.Fprintf(&b, " | %s | %s |\n", op.Console, op.CLI)
	}
	b.WriteString("\n## Scopes\n\n| scope | roles |\n|---|---|\n")
	for _, s := range people.Scopes() {
		var roles []string
		for _, role := range people.Roles() {
			if role.Has(s) {
				roles = append(roles, string(role))
			}
		}
		fmt.Fprintf(&b, "| %s | %s |\n", s, strings.Join(roles, ", "))
	}
	return b.String()
}
