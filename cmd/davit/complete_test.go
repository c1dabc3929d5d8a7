package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A service that does not answer keeps nobody waiting, and a completion never says anything but names.
func TestCompletionIsPatientForALittle(t *testing.T) {
	asked := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, url := range map[string]string{"silent": silent.URL, "closed": "http://" + closed.Addr().String(), "no URL": "http://%"} {
		cmd := &cobra.Command{}
		new(clientFlags).addTo(cmd)
		cmd.SetContext(t.Context())
		t.Setenv("DAVIT_TOKEN", "secret-of-a-test")
		if err := cmd.Flags().Set("server", url); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		found, directive := recordNames()["job"].completion(50*time.Millisecond)(cmd, nil, "")
		if len(found) > 0 || directive != cobra.ShellCompDirectiveNoFileComp {
			t.Errorf("%s: %q, %v", name, found, directive)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
	<-asked
}

// Every command of the API that is about a record that is there completes its name, and every flag whose values are few is
// completed with them.
func TestWhatIsCompleted(t *testing.T) {
	without := []string{"davit job execution", "davit group preview", "davit device import", "davit image push"} // an argument that is no name of a record
	few := regexp.MustCompile(`^(log-level|dialect|parity|format|role|scope|state|passwords|mqtts-client-auth|action|stream|of|confirm-by|for|storm|from)$`)
	for _, cmd := range leaves(tree()) {
		path := cmd.CommandPath()
		api := cmd.Flags().Lookup("server") != nil && cmd.Flags().Lookup("token-file") != nil
		if api && takesArgument(cmd) && !isNew(cmd.Name()) && cmd.ValidArgsFunction == nil {
			t.Errorf("%s completes no name", path)
		}
		if api && slices.Contains(without, path) && cmd.ValidArgsFunction != nil {
			t.Errorf("%s completes names of something else", path)
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			_, there := cmd.GetFlagCompletionFunc(f.Name)
			if few.MatchString(f.Name) && !there && !regexp.MustCompile(`audit|--from`).MatchString(path+f.Usage) && f.Name != "from" {
				t.Errorf("%s: --%s is not completed", path, f.Name)
			}
			if kind := recordFlags()[f.Name]; api && kind != "" && !there {
				t.Errorf("%s: --%s completes no %s", path, f.Name, kind)
			}
		})
	}
}

// completed is what a shell is told for a command line.
func completed(t *testing.T, args ...string) []string {
	t.Helper()
	var out strings.Builder
	p := &program{streams: streams{in: strings.NewReader(""), out: &out, err: &strings.Builder{}}}
	root := p.root()
	root.SetArgs(append([]string{cobra.ShellCompNoDescRequestCmd}, args...))
	if err := root.ExecuteContext(context.Background()); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n")
}

func TestCompletedValues(t *testing.T) {
	for line, want := range map[string]string{
		"serve --log-level ":              "debug info warn error :4",
		"serve --passwords ":              "auto on off :4",
		"serve --tls-cert ":               "pem crt cer :8",
		"serve --data ":                   ":16",
		"serve --broker-password-f":       "--broker-password-file :4",
		"serve --config ":                 "yaml yml json :8",
		"serve ":                          ":4",
		"config print serve --data ":      ":16",
		"config check ":                   "yaml yml json :8",
		"config check x.yaml --for ":      "serve bridge :4",
		"sniff --parity ":                 "odd even none :4",
		"job create --rollout ":           "yaml yml json :8",
		"image verify --public-key ":      "pub :8",
		"device-type create x --dialect ": "ayla afero :4",
		"job show ":                       ":4", // nobody says which service, or the one that is named has no answer
	} {
		t.Setenv("DAVIT_TOKEN", "")
		args := strings.Split(line, " ")
		if got := strings.Join(completed(t, args...), " "); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
