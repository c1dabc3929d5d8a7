package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/app/settings"
	"davit/internal/logevent"
	"davit/orchestrator"
)

// serveReady is the line that serve prints when everything listens.
type serveReady struct {
	Ready     bool   `json:"ready"`
	MQTT      string `json:"mqtt"`
	MQTTS     string `json:"mqtts,omitempty"`
	Websocket string `json:"websocket,omitempty"`
	HTTP      string `json:"http"`
	HTTPS     string `json:"https,omitempty"`
	Pprof     string `json:"pprof,omitempty"`
	// Token is the file with the admin token.
	Token string `json:"token_file"`
}

const serveLong = `Run the service: the embedded MQTT broker, the gateway and the orchestrator, with
all that they keep in one data folder.

What the flags say can stand in a file (--config, in YAML) and in the environment by the
same names: --max-in-progress, max-in-progress, DAVIT_MAX_IN_PROGRESS. A flag wins over the
environment, that over the file. davit config check and davit config print look at it.

When everything listens, one line of JSON on standard output says where:
{"ready":true,"mqtt":"HOST:PORT","http":"HOST:PORT",...}. Logs go to standard error.
The first start writes an admin token for the HTTP API to DIR/admin.token.
With --image-keys, or --key-list and --root-keys, signatures of images are verified when
they are uploaded; device types can require them (davit device-type change --require-signature).
Those files and the ones of --tls-cert and --tls-key are read again when they change.
With --oidc-issuer people can sign in through OpenID Connect; the provider has to send
them back to PUBLIC-URL/sign-in/oidc/callback.
An interrupt or SIGTERM ends the service in order: modules are told that it shuts down
(MQTT 5 reason 0x8B), nothing new is taken, requests that are under way have --drain to
end, and what was answered is on disk. A second one ends it at once. SIGHUP ends and
reloads nothing.`

func (p *program) serveCommand() *cobra.Command {
	var s serveSettings
	cmd := p.command("serve [--config FILE] --data DIR [--mqtt ADDR] [--http ADDR]", "Run the service: broker, gateway and orchestrator", noArgs,
		func(cmd *cobra.Command, _ []string) error {
			set, warnings, err := s.load(cmd, p.environ)
			if err != nil {
				return err
			}
			if err := s.located(set, errors.Join(s.opts.Missing(), s.consistent())); err != nil {
				return err
			}
			log, err := app.NewLogger(p.err, s.logs.options)
			if err != nil {
				return fmt.Errorf("serve: %w", err)
			}
			s.opts.Log = log
			warnOfVariables(log, warnings)
			return p.serve(cmd, s.opts)
		})
	cmd.Long = serveLong
	s.addTo(cmd)
	return cmd
}

// serveExample is where people find how a configuration file of serve looks.
const serveExample = "docs/serve.yaml is an example"

// serveSettings are the settings of davit serve.
type serveSettings struct {
	opts   app.ServerOptions
	config string
	logs   *logFlags
}

// load gives the settings that no flag has given the values of the environment and of the file. An error about
// the file has all that is wrong in it, with what does not go together.
func (s *serveSettings) load(cmd *cobra.Command, environ []string) (*settings.Set, []string, error) {
	set := serveSet(cmd)
	warnings, err := set.Environment(environ)
	if err != nil {
		return nil, nil, usagef("serve: %w", err)
	}
	if s.config != "" {
		if err = set.File(s.config, serveExample); err != nil {
			err = set.Beside(err, s.consistent())
		}
	}
	return set, warnings, err
}

// serveSet are the settings that the flags of davit serve make.
func serveSet(cmd *cobra.Command) *settings.Set {
	set := settings.New("davit serve", cmd.LocalNonPersistentFlags(), nil, "help")
	set.Elsewhere = bridgeNames()
	return set
}

// serveNames are the settings of davit serve, for those of other commands.
func serveNames() map[string]string {
	cmd := &cobra.Command{}
	new(serveSettings).addTo(cmd)
	return named(settings.New("davit serve", cmd.Flags(), nil))
}

// located is an error about the settings with where they were given: exit code 2, or 1 if there is a file.
func (s *serveSettings) located(set *settings.Set, err error) error {
	return located(set, "serve", s.config, err)
}

// addTo adds the flags of davit serve.
func (s *serveSettings) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.config, "config", "", "configuration file, in YAML, by the names of these flags (default none)")
	f.StringVar(&s.opts.Data, "data", "", "data folder (required, here, in the environment or in the file; made if it is not there)")
	f.StringVar(&s.opts.MQTT, "mqtt", "127.0.0.1:1883", "address of the MQTT listener; port 0 takes a free one")
	f.StringVar(&s.opts.HTTP, "http", "127.0.0.1:8080", "address of the HTTP API; port 0 takes a free one")
	f.StringVar(&s.opts.Websocket, "websocket", "", "address of a listener for MQTT over WebSocket (default none)")
	f.StringVar(&s.opts.MQTTS, "mqtts", "", "address of a listener for MQTT over TLS (default none; needs --tls-cert and --tls-key)")
	f.StringVar(&s.opts.HTTPS, "https", "", "address of a listener for the HTTP API over TLS (default none; needs --tls-cert and --tls-key)")
	f.StringVar(&s.opts.Pprof, "pprof", "", "address on loopback at which profiles of the process are served, for go tool pprof (default none)")
	f.StringVar(&s.opts.TLSCert, "tls-cert", "", "PEM file with the certificate chain for --mqtts and --https, and for --websocket if given")
	f.StringVar(&s.opts.TLSKey, "tls-key", "", "PEM file with the certificate's key")
	f.StringVar(&s.opts.ClientCA, "mqtts-client-ca", "", "PEM file with the authorities whose client certificates are believed; devices and bridges with one need no password (default none)")
	f.StringArrayVar(&s.opts.ClientCRLs, "mqtts-client-crl", nil, "file with a revocation list of such an authority, read again when it changes; with one, every authority needs one (repeatable)")
	f.StringVar(&s.opts.ClientAuth, "mqtts-client-auth", app.AuthRequire, "require a client certificate or only allow one: require or allow")
	f.StringVar(&s.opts.Passwords, "passwords", app.PasswordsAuto, "where devices and bridges may log in with passwords: auto (listeners on loopback), on or off")
	f.StringVar(&s.opts.External.URL, "broker", "", "URL of an MQTT 5 broker to use instead of the embedded one (mqtt://, mqtts://)")
	f.StringVar(&s.opts.External.Username, "broker-username", "", "user name at that broker")
	f.StringVar(&s.opts.External.PasswordFile, "broker-password-file", "", "file with the password at that broker")
	f.IntVar(&s.opts.MaxInProgress, "max-in-progress", 0, "how many devices may be in progress at a time, of all jobs together, which share it fairly; 0 is no limit")
	f.IntVar(&s.opts.Reoffers, "reoffers", 500, "how many offers that stand already are repeated a second at most, to devices that come back")
	f.Int64Var(&s.opts.ModuleCredit, "module-credit", orchestrator.DefaultModuleCredit, "bytes of image data that may be under way to one device")
	f.Int64Var(&s.opts.TotalCredit, "total-credit", orchestrator.DefaultTotalCredit, "bytes of image data that may be under way to all devices together")
	f.IntVar(&s.opts.MessageRate, "message-rate", 100, "how many messages a second a device may send, fetches aside, and a bridge for each of its devices; who sends faster is slowed down, then disconnected")
	f.IntVar(&s.opts.ConnectRate, "connect-rate", 60, "how many times a minute a device or a bridge may connect")
	f.IntVar(&s.opts.RequestRate, "api-rate", app.DefaultRequestRate, "how many HTTP requests a second one user or token may make; an address that has not signed in may make a quarter of that")
	f.Int64Var(&s.opts.MaxImage, "max-image", app.DefaultMaxImage, "largest image in bytes")
	for _, k := range []struct {
		flag, what string
		to         *time.Duration
	}{
		{"keep-audit", "entries of the audit log", &s.opts.Retention.Audit},
		{"keep-jobs", "jobs that have ended, with their executions", &s.opts.Retention.Jobs},
		{"keep-archived-images", "archived images that no job names", &s.opts.Retention.ArchivedImages},
	} {
		into(cmd, k.flag, "AGE", "how long "+k.what+" are kept, for example 400d (default: for ever)",
			settingAge, func(d time.Duration) { *k.to = d })
	}
	into(cmd, "clock-confirmed", "DAY", "a day on which the clock was right, such as 2026-11-27: what --keep-* delete waits while the clock is further ahead than a day and no NTP client keeps it (default none)",
		confirmedDay, func(d time.Time) { s.opts.ClockConfirmed = d })
	f.IntVar(&s.opts.CompactFree, "compact-free", app.DefaultCompactFree, "compact the records by themselves, at a quiet time, when more than so many percent of their bytes on disk, and 64 MiB, are free; 0 never does")
	f.DurationVar(&s.opts.Drain, "drain", app.DefaultDrain, "how long HTTP requests have to end when the service is told to")
	f.Int64Var(&s.opts.MinFree, "min-free", app.DefaultMinFree, "bytes of the disk that uploads leave free, for records")
	addKeyFlags(cmd, &s.opts.Keys)
	f.StringVar(&s.opts.PublicURL, "public-url", "", "where browsers find the console, such as https://davit.example.com (behind a proxy, and for --oidc-issuer)")
	f.StringArrayVar(&s.opts.TrustedProxies, "trusted-proxy", nil, "network or address of a proxy whose X-Forwarded-For and X-Forwarded-Proto are believed (repeatable)")
	f.StringVar(&s.opts.OIDC.Issuer, "oidc-issuer", "", "URL of an OpenID Connect provider through which people can sign in")
	f.StringVar(&s.opts.OIDC.ClientID, "oidc-client-id", "", "what the provider calls this service")
	f.StringVar(&s.opts.OIDC.SecretFile, "oidc-client-secret-file", "", "file with the client's secret (default none: a public client)")
	f.StringVar(&s.opts.OIDC.RoleClaim, "oidc-role-claim", "", "claim that says what somebody is, such as groups or realm_access.roles")
	f.StringArrayVar(&s.opts.OIDC.Roles, "oidc-role", nil, "VALUE=ROLE: what a value of the claim makes: viewer, operator, developer or admin (repeatable)")
	f.StringVar(&s.opts.OIDC.DefaultRole, "oidc-default-role", "", "role of those whose claim says nothing (default: they are refused)")
	addTraceFlags(cmd, &s.opts.Traces)
	s.logs = addLogFlags(cmd, "info", logevent.ServiceParts())
	completeWith(cmd, "mqtts-client-auth", app.AuthRequire, app.AuthAllow)
	completeWith(cmd, "passwords", app.PasswordsAuto, app.PasswordsOn, app.PasswordsOff)
	folder(cmd, "data")
	file(cmd, "config", "yaml", "yml", "json")
	file(cmd, "tls-cert", "pem", "crt", "cer")
	file(cmd, "tls-key", "pem", "key")
	file(cmd, "mqtts-client-ca", "pem", "crt", "cer")
	file(cmd, "mqtts-client-crl", "pem", "crl")
	file(cmd, "broker-password-file")
	file(cmd, "oidc-client-secret-file")
	completeWith(cmd, "log-level", logLevels()...)
	completeWith(cmd, "oidc-default-role", roleNames()...)
}

func (p *program) serve(cmd *cobra.Command, opts app.ServerOptions) error {
	defer notEndedByHangup(opts.Log)() // before anything else: one that comes early must not kill the process
	app.LimitGarbage()
	go app.GiveBackMemory(cmd.Context())
	server, err := app.NewServer(opts)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	err = p.runManaged(cmd.Context(), opts.Log, managed{
		program: server,
		started: func() {
			a := server.Addresses()
			_ = p.printJSON(serveReady{true, a.MQTT, a.MQTTS, a.Websocket, a.HTTP, a.HTTPS, a.Pprof, app.TokenFile(opts.Data)})
		},
		status: func() string { return "Serving " + opts.Data },
	})
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// notEndedByHangup has SIGHUP say that there is nothing to reload. It would kill the service, and service managers take that for a
// good end: whoever means a bridge, or rotates logs, would leave the fleet without one. What it returns ends that.
func notEndedByHangup(log *slog.Logger) (stop func()) {
	hangups, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-hangups:
				log.Warn("SIGHUP changes nothing: settings are read at the start, certificates and keys again by themselves", "event", logevent.HangupIgnored)
			case <-ended:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(ended)
	}
}
