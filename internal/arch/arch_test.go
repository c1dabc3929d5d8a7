package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the module's root as seen from this package.
const root = "../.."

const module = "davit/"

// allowed says which packages of ours each package may import outside its
// tests. The longest matching prefix of the package's folder decides.
// A folder may always import what lies below itself.
var allowed = map[string][]string{
	"schemas": {},
	// It decides by what it is given: no file, no clock, no network.
	"trust":                  {"schemas"},
	"internal/durable":       {},
	"internal/signtest":      {"trust"},
	"internal/clock":         {},
	"internal/logonce":       {},
	"internal/logevent":      {},
	"internal/trace":         {"schemas"},
	"internal/tracing":       {"schemas", "internal/logevent", "internal/trace"},
	"internal/pulse":         {},
	"internal/machine":       {},
	"internal/secrettest":    {},
	"internal/logtest":       {},
	"internal/managertest":   {},
	"internal/nobodytest":    {},
	"internal/mosquittotest": {"internal/logtest"},
	// The service and the bridge remember key lists in one way.
	"internal/keystate":  {"trust", "internal/durable"},
	"internal/arch":      {},
	"internal/filestamp": {},
	"internal/backup":    {"internal/durable"},
	"internal/ca":        {"schemas", "internal/durable"},
	"internal/sim":       {"schemas"},
	"broker":             {"schemas", "internal/clock", "internal/durable", "internal/filestamp", "internal/logonce", "internal/logevent"},
	"bridge":             {"schemas", "trust", "internal/clock", "internal/durable", "internal/keystate", "internal/logonce", "internal/logevent", "internal/trace"},
	"bridge/dialect":     {"schemas"},
	// What the dialects' tests share stands on the simulation, as they do.
	"bridge/dialect/dialecttest": {"schemas", "bridge/dialect", "bridge/recording", "internal/sim"},
	"bridge/serialport":          {"bridge/dialect"},
	// Which port a name means is told with the errors of opening one.
	"bridge/portname":          {"bridge/serialport"},
	"bridge/portname/porttest": {},
	"bridge/recording":         {"schemas", "internal/logevent"},
	"bridge/sniff":             {"schemas", "bridge/recording"},
	"bridge/sniff/live":        {"bridge/recording", "bridge/sniff", "bridge/portname", "bridge/serialport"},
	"bridge/replay":            {"schemas", "bridge/dialect", "bridge/recording", "bridge/sniff"},
	"bridge/spool":             {"schemas", "bridge/rangeset", "internal/durable", "internal/logonce"},
	"bridge/mqtt":              {"schemas", "internal/logevent"},
	"bridge/login":             {"internal/durable"},
	"bridge/module":            {"schemas", "bridge/fetcher", "bridge/mqtt", "bridge/rangeset", "internal/logevent"},
	"bridge/rangeset":          {"schemas"},
	"bridge/fetcher":           {"schemas", "bridge/rangeset"},
	"orchestrator":             {"schemas", "trust", "internal/clock", "internal/durable", "internal/logonce", "internal/logevent", "internal/trace", "internal/pulse"},
	"orchestrator/firmware":    {},
	// The language of queries knows only what it is given of a device.
	"orchestrator/query": {},
	// The HTTP API offers the orchestrator's records and service as they are: some thirty calls that an
	// interface of six methods cannot name and that a second set of types would only repeat.
	"gateway": {"schemas", "orchestrator", "internal/clock", "internal/durable", "internal/logonce", "internal/logevent", "internal/trace"},
	// Users, roles and tokens are kept in the orchestrator's store and told to its audit log.
	"gateway/people": {"orchestrator", "internal/clock", "internal/logevent"},
	// The console stands on the gateway like any other front; the gateway knows it only as an http.Handler.
	"gateway/web":     {"schemas", "orchestrator", "gateway", "internal/logevent"},
	"internal/client": {"schemas", "orchestrator", "gateway/people"},
	"internal/app":    {"schemas", "trust", "broker", "gateway", "orchestrator", "bridge", "internal/backup", "internal/durable", "internal/filestamp", "internal/keystate", "internal/machine", "internal/client", "internal/sim", "internal/logevent", "internal/trace", "internal/tracing"},
	// The fleet's client knows MQTT, and of the contract how a busy service says when to come back; its devices know the contract, and the API that makes them known.
	"internal/fleet":        {"schemas", "bridge/fetcher", "bridge/rangeset"},
	"internal/fleet/mqtt":   {"schemas"},
	"internal/fleet/supply": {"schemas", "orchestrator", "internal/client", "internal/fleet", "internal/sim"},
	"internal/rack":         {},
	"internal/observe":      {},
	// The dashboards are made by a program of their own.
	"deploy": {},
	// What makes and checks a release sees the product from outside.
	"release": {},
	// It sees servers from outside; the API of the service makes devices, images and jobs for it.
	"bench": {"schemas", "orchestrator", "bridge/fetcher", "bridge/rangeset", "internal/client", "internal/fleet"},
	// Sizes, rates and parts are written as for job simulate.
	"internal/app/fleetfile": {"schemas", "orchestrator", "internal/app/yamlfile", "internal/fleet", "internal/rehearsal"},
	// It plays jobs on the service itself.
	"internal/rehearsal": {"schemas", "orchestrator"},
	"internal/demo":      {"schemas", "orchestrator", "bridge", "internal/app", "internal/client", "internal/sim", "internal/logevent"},
	// release/manpages is in the program that writes the manual, not in the binary that is published.
	"cmd/davit": {"release/manpages", "schemas", "trust", "orchestrator", "bridge", "gateway/people", "internal/app", "internal/backup", "internal/ca", "internal/client", "internal/demo", "internal/fleet", "internal/rehearsal", "internal/sim", "internal/durable", "internal/logonce", "internal/logevent"},
}

// never lists imports that the rules above would let pass: the console is
// handed to the gateway by internal/app.
var never = map[string][]string{"gateway": {"gateway/web"}, "gateway/people": {"gateway/web"}}

// fences says which folders may import a vendor's library outside their tests.
var fences = map[string][]string{
	"github.com/mochi-mqtt/server":   {"broker"},
	"github.com/eclipse/paho":        {"gateway", "bridge", "internal/sim"},
	"go.etcd.io/bbolt":               {"orchestrator/boltstore"},
	"github.com/creack/pty":          {"internal/sim"},
	"github.com/spf13/cobra":         {"cmd/davit", "release/manpages"},
	"github.com/spf13/pflag":         {"cmd/davit", "internal/app/settings", "release/manpages"},
	"github.com/danielgtaylor/huma":  {"gateway"},
	"github.com/vbauerster/mpb":      {"internal/demo"},
	"github.com/expr-lang/expr":      {"orchestrator/query"},
	"github.com/goccy/go-yaml":       {"internal/app/yamlfile", "internal/app/bridgefile", "internal/app/settings"},
	"github.com/coreos/go-oidc":      {"gateway/people"},
	"aead.dev/minisign":              {"trust"},
	"golang.org/x/oauth2":            {"gateway/people"},
	"golang.org/x/time":              {"gateway", "gateway/people", "orchestrator"},
	"github.com/netresearch/go-cron": {"orchestrator"},
	"github.com/google/licensecheck": {"release/licenses"},
	"go.opentelemetry.io":            {"internal/tracing"},
}

// source is one Go file of the module.
type source struct {
	folder string // slash-separated, relative to the root
	name   string
	test   bool
	ast    *ast.File
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); p != root && (strings.HasPrefix(name, ".") || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		all = append(all, source{path.Dir(rel), path.Base(rel), strings.HasSuffix(rel, "_test.go"), f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("found %d files only; is %s the module's root?", len(all), root)
	}
	return all
}

func (s source) imports() []string {
	var paths []string
	for _, spec := range s.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic(err) // the parser accepted it
		}
		paths = append(paths, p)
	}
	return paths
}

// within says whether folder is dir or lies below it.
func within(folder, dir string) bool {
	return folder == dir || strings.HasPrefix(folder, dir+"/")
}

// rule finds the entry of the longest prefix of folder.
func rule(folder string) (string, []string, bool) {
	for dir := folder; dir != "."; dir = path.Dir(dir) {
		if to, ok := allowed[dir]; ok {
			return dir, to, true
		}
	}
	return "", nil, false
}

func TestImportsFollowTheArchitecture(t *testing.T) {
	for _, s := range sources(t) {
		dir, to, ok := rule(s.folder)
		if !ok {
			t.Errorf("%s: the folder has no rule; add one to this test and to ARCHITECTURE.md", s.folder)
			continue
		}
		// Tests may start the real neighbours, except those of the simulation: it has to test us from outside.
		if s.test && !within(s.folder, "internal/sim") {
			continue
		}
		for _, p := range s.imports() {
			target, ours := strings.CutPrefix(p, module)
			if slices.Contains(never[s.folder], target) {
				t.Errorf("%s/%s imports %s, which it may not", s.folder, s.name, p)
			}
			if !ours || within(target, dir) {
				continue
			}
			if !slices.ContainsFunc(to, func(a string) bool { return within(target, a) }) {
				t.Errorf("%s/%s imports %s; %s may import %v", s.folder, s.name, p, dir, to)
			}
		}
	}
}

func TestVendorsStayInTheirFences(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, p := range s.imports() {
			for vendor, folders := range fences {
				if strings.HasPrefix(p, vendor) && !slices.ContainsFunc(folders, func(f string) bool { return within(s.folder, f) }) {
					t.Errorf("%s/%s imports %s; only %v may", s.folder, s.name, p, folders)
				}
			}
			if strings.HasPrefix(p, "github.com/prometheus/") && !strings.HasPrefix(s.name, "metrics") && !within(s.folder, "internal/app") {
				t.Errorf("%s/%s imports %s; Prometheus belongs in metrics files and internal/app", s.folder, s.name, p)
			}
			if p == "C" {
				t.Errorf("%s/%s uses cgo; the binary is pure Go", s.folder, s.name)
			}
		}
	}
}

func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	docs := map[string][]string{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		text := ""
		if s.ast.Doc != nil {
			text = s.ast.Doc.Text()
		}
		docs[s.folder] = append(docs[s.folder], text)
	}
	for folder, texts := range docs {
		said := slices.DeleteFunc(slices.Clone(texts), func(d string) bool { return d == "" })
		switch {
		case len(said) == 0:
			t.Errorf("%s has no package comment", folder)
		case len(said) > 1:
			t.Errorf("%s has %d package comments, want one", folder, len(said))
		case len(said[0]) < 80:
			t.Errorf("%s: the package comment does not say what it owns: %q", folder, said[0])
		}
	}
}

// TestTrustIsPure: what decides about signatures is given files, time and
// network by nobody but its caller.
func TestTrustIsPure(t *testing.T) {
	for _, s := range sources(t) {
		if !within(s.folder, "trust") || s.test {
			continue
		}
		for _, p := range s.imports() {
			if slices.ContainsFunc([]string{"os", "net", "log", "syscall", "context", "sync", "runtime"}, func(impure string) bool { return within(p, impure) }) {
				t.Errorf("%s/%s imports %s; the package owns no files, network, log or goroutine", s.folder, s.name, p)
			}
		}
		text, err := os.ReadFile(filepath.Join(root, s.folder, s.name))
		if err != nil {
			t.Fatal(err)
		}
		if used := clock.Find(text); used != nil {
			t.Errorf("%s/%s uses %s; the time is an argument", s.folder, s.name, used)
		}
	}
}

// clock is what reads the time, or waits for it.
var clock = regexp.MustCompile(`\btime\.(Now|Since|Until|Sleep|After|AfterFunc|Tick|NewTimer|NewTicker)\(`)
