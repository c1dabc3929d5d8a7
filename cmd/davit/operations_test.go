package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"davit/gateway/people"
)

var updateOperations = flag.Bool("update-operations", false, "write docs/operations.md anew")

const (
	operationsFile = "../../docs/operations.md"
	openapiFile    = "../../schemas/openapi.yaml"
)

func tree() *cobra.Command {
	p := &program{streams: streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard}}
	return p.root()
}

// TestEveryOperationHasItsCommand: what the matrix of operations names is
// there and does something.
func TestEveryOperationHasItsCommand(t *testing.T) {
	root := tree()
	for _, op := range people.Operations() {
		words := strings.Fields(op.CLI)
		if len(words) < 2 || words[0] != "davit" {
			t.Errorf("%s: %q is no command of davit", op.ID, op.CLI)
			continue
		}
		cmd, rest, err := root.Find(words[1:])
		if err != nil || len(rest) > 0 || cmd.CommandPath() != op.CLI {
			t.Errorf("%s: there is no command %q", op.ID, op.CLI)
			continue
		}
		if cmd.HasSubCommands() || cmd.RunE == nil {
			t.Errorf("%s: %q only holds other commands", op.ID, op.CLI)
		}
	}
}

// programs are the commands that call no operation of the API.
func programs() []string {
	return []string{"davit serve", "davit bridge", "davit bridge ports", "davit bridge status", "davit bridge log-level", "davit mcu", "davit sim fleet", "davit sniff", "davit replay", "davit demo", "davit config check", "davit config print serve", "davit config print bridge", "davit check", "davit health", "davit job simulate", "davit version", "davit device claim",
		"davit ca init", "davit ca issue", "davit ca revoke", "davit ca crl", "davit ca list",
		"davit key generate", "davit key show", "davit image sign", "davit image cosign", "davit image verify",
		"davit keylist create", "davit keylist sign", "davit keylist show", "davit keylist check"}
}

// TestCommands holds what all commands have in common.
func TestCommands(t *testing.T) {
	known := map[string]bool{}
	for _, op := range people.Operations() {
		known[op.CLI] = true
	}
	each(tree(), func(c *cobra.Command) {
		path := c.CommandPath()
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: the short description is %q", path, c.Short)
		}
		if c.HasSubCommands() && path != "davit bridge" {
			return
		}
		program := slices.Contains(programs(), path)
		if known[path] == program {
			t.Errorf("%s: in the matrix of operations: %v; a program of its own: %v", path, known[path], program)
		}
		if program {
			return
		}
		for _, flag := range []string{"server", "data", "token-file"} {
			if c.Flags().Lookup(flag) == nil {
				t.Errorf("%s: no flag --%s", path, flag)
			}
		}
		verb := c.Name()
		check := func(flag string, wanted bool) {
			if got := c.Flags().Lookup(flag) != nil; got != wanted {
				t.Errorf("%s: has --%s: %v", path, flag, got)
			}
		}
		check("idempotency-key", slices.Contains([]string{"create", "add", "import", "push"}, verb))
		// Bridges have no revision; a wave is forced, not edited.
		check("force", verb == "change" && path != "davit bridge change" || path == "davit job approve")
		if verb == "list" {
			check("limit", true)
		}
	})
}

func each(c *cobra.Command, f func(*cobra.Command)) {
	for _, child := range c.Commands() {
		if name := child.Name(); name == "help" || name == "completion" {
			continue
		}
		f(child)
		each(child, f)
	}
}

// TestRolesAndScopesAreKnown: the names that help and completion offer are
// those of the matrix.
func TestRolesAndScopesAreKnown(t *testing.T) {
	var roles, scopes []string
	for _, r := range people.Roles() {
		roles = append(roles, string(r))
	}
	for _, s := range people.Scopes() {
		scopes = append(scopes, string(s))
	}
	if got := roleNames(); !slices.Equal(got, roles) {
		t.Errorf("roles %q, want %q", got, roles)
	}
	if got := scopeNames(); !slices.Equal(got, scopes) {
		t.Errorf("scopes %q, want %q", got, scopes)
	}
}

// TestOperationsDocument: docs/operations.md says what the code does.
func TestOperationsDocument(t *testing.T) {
	want := operationsDocument(t)
	if *updateOperations {
		if err := os.WriteFile(operationsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(operationsFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date; write it anew with: go test ./cmd/davit -run TestOperationsDocument -update-operations", filepath.Base(operationsFile))
	}
}

// calls are the methods and paths of schemas/openapi.yaml by operation id.
func calls(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(openapiFile)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `yaml:"operationId"`
		} `yaml:"paths"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	byID := map[string]string{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			byID[op.OperationID] = strings.ToUpper(method) + " " + path
		}
	}
	return byID
}

func operationsDocument(t *testing.T) string {
	t.Helper()
	byID := calls(t)
	var b strings.Builder
	b.WriteString(`# Operations

What can be done, and where: every operation of the HTTP API (schemas/openapi.yaml) with the page of the console and the command on which
the same is done, the scope that it takes, and the lowest role that has the scope. Each role may do what the one before may:
viewer, operator, developer, admin. A token can be restricted to scopes and never does more than its owner's role.

This file is made from the matrix in gateway/people/operations.go by
` + "`go test ./cmd/davit -run TestOperationsDocument -update-operations`" + `, and a test keeps it up to date.

| operation | method and path | scope | lowest role | console | command |
|---|---|---|---|---|---|
`)
	for _, op := range people.Operations() {
		call, ok := byID[op.ID]
		if !ok {
			t.Errorf("openapi.yaml has no operation %s", op.ID)
		}
		delete(byID, op.ID)
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | `%s` | `%s` |\n", op.ID, call, op.Scope, lowest(op.Scope), op.Console, op.CLI)
	}
	for id, call := range byID {
		t.Errorf("the matrix has no operation %s (%s)", id, call)
	}
	b.WriteString("\n## Roles\n\n| scope |")
	for _, r := range people.Roles() {
		fmt.Fprintf(&b, " %s |", r)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(people.Roles())) + "\n")
	for _, s := range people.Scopes() {
		fmt.Fprintf(&b, "| %s |", s)
		for _, r := range people.Roles() {
			b.WriteString(map[bool]string{true: " yes |", false: " |"}[r.Has(s)])
		}
		b.WriteString("\n")
	}
	return b.String()
}

func lowest(s people.Scope) people.Role {
	for _, r := range people.Roles() {
		if r.Has(s) {
			return r
		}
	}
	return ""
}
