package query

import (
	"fmt"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

// Limits of a query.
const (
	// MaxLength is how many bytes the text may have.
	MaxLength = 4096
	// maxNodes is how many names, texts and operators it may have.
	maxNodes = 1000
)

// Device is what a query looks at.
type Device struct {
	ID       string
	Type     string
	Online   bool
	Labels   map[string]string
	Versions map[string]string // by image type, as reported last
	Module   string
	Dialect  string
	Seen     time.Time // zero if it was never seen
	Hello    time.Time // zero if it never said hello
	Created  time.Time
}

// Field is one name of the language.
type Field struct {
	Name string
	// Type is text, yes or no, time, or texts by name.
	Type string
	Doc  string
}

// Fields are the names that a query can use.
func Fields() []Field {
	return []Field{
		{"id", "text", "the device's id"},
		{"type", "text", "its device type"},
		{"online", "yes or no", "whether it is connected"},
		{"label", "texts by name", "its labels: label.site, or label[\"with-dash\"]"},
		{"version", "texts by name", "the versions that its host MCU reported last, by image type"},
		{"seen", "time", "when it connected, ended its connection or said what it runs"},
		{"hello", "time", "when it said last what it runs"},
		{"created", "time", "when it was created here"},
		{"module", "text", "its module's own firmware"},
		{"dialect", "text", "the protocol that it speaks to its host MCU"},
	}
}

// env is what the expression sees.
type env struct {
	ID      string            `expr:"id"`
	Type    string            `expr:"type"`
	Online  bool              `expr:"online"`
	Label   map[string]string `expr:"label"`
	Version map[string]string `expr:"version"`
	Module  string            `expr:"module"`
	Dialect string            `expr:"dialect"`
	Seen    time.Time         `expr:"seen"`
	Hello   time.Time         `expr:"hello"`
	Created time.Time         `expr:"created"`

	Now func() time.Time       `expr:"now"`
	Ago func(string) time.Time `expr:"ago"`
	// What comparisons of versions are rewritten to.
	Before   func(a, b string) bool `expr:"version_before"`
	NotAfter func(a, b string) bool `expr:"version_not_after"`
}

// Query is a compiled query.
type Query struct {
	text    string
	program *vm.Program
	ages    map[string]time.Duration
	hints   []Hint
}

// Error says what is wrong with a query, and where.
type Error struct {
	// Line and Column count from 1, in characters.
	Line, Column int
	Problem      string
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Problem)
}

// Compile checks and compiles a query. Errors are of type *Error.
func Compile(text string) (*Query, error) {
	if len(text) > MaxLength {
		return nil, &Error{1, 1, fmt.Sprintf("the query has %d bytes, at most %d are allowed", len(text), MaxLength)}
	}
	if strings.TrimSpace(text) == "" {
		return nil, &Error{1, 1, "the query is empty; write for example: online"}
	}
	q := &Query{text: text, ages: map[string]time.Duration{}}
	if err := q.check(); err != nil {
		return nil, err
	}
	program, err := expr.Compile(text, expr.Env(env{}), expr.AsBool(), expr.WarnOnAny(), expr.DisableAllBuiltins(),
		expr.MaxNodes(maxNodes), expr.Patch(byVersion{}))
	if err != nil {
		return nil, compileError(err)
	}
	q.program = program
	return q, nil
}

// String returns the text of the query.
func (q *Query) String() string { return q.text }

// Matcher evaluates a query as of one time. It belongs to one goroutine.
type Matcher struct {
	program *vm.Program
	vm      vm.VM
	env     env
}

// At returns a Matcher for which now is the present.
func (q *Query) At(now time.Time) *Matcher {
	return &Matcher{program: q.program, env: env{
		Now:      func() time.Time { return now },
		Ago:      func(age string) time.Time { return now.Add(-q.ages[age]) },
		Before:   func(a, b string) bool { return a != "" && b != "" && CompareVersions(a, b) < 0 },
		NotAfter: func(a, b string) bool { return a != "" && b != "" && CompareVersions(a, b) <= 0 },
	}}
}

// Match says whether the query finds the device.
func (m *Matcher) Match(d *Device) (bool, error) {
	e := &m.env
	e.ID, e.Type, e.Online, e.Label, e.Version = d.ID, d.Type, d.Online, d.Labels, d.Versions
	e.Module, e.Dialect, e.Seen, e.Hello, e.Created = d.Module, d.Dialect, d.Seen, d.Hello, d.Created
	out, err := m.vm.Run(m.program, e)
	if err != nil {
		return false, fmt.Errorf("device %q: %w", d.ID, err)
	}
	yes, ok := out.(bool)
	if !ok {
		return false, fmt.Errorf("device %q: the query yields %v, neither true nor false", d.ID, out)
	}
	return yes, nil
}
