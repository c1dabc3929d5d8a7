package main

import (
	"time"

	"fmt"

	"github.com/spf13/cobra"

	"davit/internal/app"
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

func (p *program) serveCommand() *cobra.Command {
	var opts app.ServerOptions
	var level string
	cmd := p.command("serve --data DIR [--mqtt ADDR] [--http ADDR]", "Run the service: broker, gateway and orchestrator", noArgs,
		func(cmd *cobra.Command, _ []string) error {
			log, err := app.NewLogger(p.err, level)
			if err != nil {
				return usageError{err}
			}
			opts.Log = log
			if err := opts.Validate(); err != nil {
				return usageError{err}
			}
			return p.serve(cmd, opts)
		})
	cmd.Long = `Run the service: the embedded MQTT broker, the gateway and the orchestrator, with
all that they keep in one data folder.

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
end, and what was answered is on disk. A second one ends it at once.`
	f := cmd.Flags()
	f.StringVar(&opts.Data, "data", "", "data folder (required; made if it is not there)")
	f.StringVar(&opts.MQTT, "mqtt", "127.0.0.1:1883", "address of the MQTT listener; port 0 takes a free one")
	f.StringVar(&opts.HTTP, "http", "127.0.0.1:8080", "address of the HTTP API; port 0 takes a free one")
	f.StringVar(&opts.Websocket, "websocket", "", "address of a listener for MQTT over WebSocket (default none)")
	f.StringVar(&opts.MQTTS, "mqtts", "", "address of a listener for MQTT over TLS (default none; needs --tls-cert and --tls-key)")
	f.StringVar(&opts.HTTPS, "https", "", "address of a listener for the HTTP API over TLS (default none; needs --tls-cert and --tls-key)")
	f.StringVar(&opts.Pprof, "pprof", "", "address on loopback at which profiles of the process are served, for go tool pprof (default none)")
	f.StringVar(&opts.TLSCert, "tls-cert", "", "PEM file with the certificate chain for --mqtts and --https, and for --websocket if given")
	f.StringVar(&opts.TLSKey, "tls-key", "", "PEM file with the certificate's key")
	f.StringVar(&opts.ClientCA, "mqtts-client-ca", "", "PEM file with the authorities whose client certificates are believed; devices and bridges with one need no password (default none)")
	f.StringArrayVar(&opts.ClientCRLs, "mqtts-client-crl", nil, "file with a revocation list of such an authority, read again when it changes; with one, every authority needs one (repeatable)")
	f.StringVar(&opts.ClientAuth, "mqtts-client-auth", app.AuthRequire, "require a client certificate or only allow one: require or allow")
	f.StringVar(&opts.Passwords, "passwords", app.PasswordsAuto, "where devices and bridges may log in with passwords: auto (listeners on loopback), on or off")
	f.StringVar(&opts.External.URL, "broker", "", "URL of an MQTT 5 broker to use instead of the embedded one (mqtt://, mqtts://)")
	f.StringVar(&opts.External.Username, "broker-username", "", "user name at that broker")
	f.StringVar(&opts.External.PasswordFile, "broker-password-file", "", "file with the password at that broker")
	f.IntVar(&opts.MaxInProgress, "max-in-progress", 0, "how many devices may be in progress at a time, of all jobs together, which share it fairly; 0 is no limit")
	f.IntVar(&opts.Reoffers, "reoffers", 500, "how many offers that stand already are repeated a second at most, to devices that come back")
	f.Int64Var(&opts.ModuleCredit, "module-credit", orchestrator.DefaultModuleCredit, "bytes of image data that may be under way to one device")
	f.Int64Var(&opts.TotalCredit, "total-credit", orchestrator.DefaultTotalCredit, "bytes of image data that may be under way to all devices together")
	f.IntVar(&opts.MessageRate, "message-rate", 100, "how many messages a second a device may send, fetches aside, and a bridge for each of its devices; who sends faster is slowed down, then disconnected")
	f.IntVar(&opts.ConnectRate, "connect-rate", 60, "how many times a minute a device or a bridge may connect")
	f.IntVar(&opts.RequestRate, "api-rate", app.DefaultRequestRate, "how many HTTP requests a second one user or token may make; an address that has not signed in may make a quarter of that")
	f.Int64Var(&opts.MaxImage, "max-image", app.DefaultMaxImage, "largest image in bytes")
	for _, k := range []struct {
		flag, what string
		to         *time.Duration
	}{
		{"keep-audit", "entries of the audit log", &opts.Retention.Audit},
		{"keep-jobs", "jobs that have ended, with their executions", &opts.Retention.Jobs},
		{"keep-archived-images", "archived images that no job names", &opts.Retention.ArchivedImages},
	} {
		into(cmd, k.flag, "TIME", "how long "+k.what+" are kept, for example 400d (default: for ever)",
			func(s string) (time.Duration, error) { return parseDays(k.flag, s) }, func(d time.Duration) { *k.to = d })
	}
	f.DurationVar(&opts.Drain, "drain", app.DefaultDrain, "how long HTTP requests have to end when the service is told to")
	f.Int64Var(&opts.MinFree, "min-free", app.DefaultMinFree, "bytes of the data folder's disk that uploads leave free, for records")
	addKeyFlags(cmd, &opts.Keys)
	f.StringVar(&opts.PublicURL, "public-url", "", "where browsers find the console, such as https://davit.example.com (behind a proxy, and for --oidc-issuer)")
	f.StringArrayVar(&opts.TrustedProxies, "trusted-proxy", nil, "network or address of a proxy whose X-Forwarded-For and X-Forwarded-Proto are believed (repeatable)")
	f.StringVar(&opts.OIDC.Issuer, "oidc-issuer", "", "URL of an OpenID Connect provider through which people can sign in")
	f.StringVar(&opts.OIDC.ClientID, "oidc-client-id", "", "what the provider calls this service")
	f.StringVar(&opts.OIDC.SecretFile, "oidc-client-secret-file", "", "file with the client's secret (default none: a public client)")
	f.StringVar(&opts.OIDC.RoleClaim, "oidc-role-claim", "", "claim that says what somebody is, such as groups or realm_access.roles")
	f.StringArrayVar(&opts.OIDC.Roles, "oidc-role", nil, "VALUE=ROLE: what a value of the claim makes: viewer, operator, developer or admin (repeatable)")
	f.StringVar(&opts.OIDC.DefaultRole, "oidc-default-role", "", "role of those whose claim says nothing (default: they are refused)")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	completeWith(cmd, "mqtts-client-auth", app.AuthRequire, app.AuthAllow)
	completeWith(cmd, "passwords", app.PasswordsAuto, app.PasswordsOn, app.PasswordsOff)
	return cmd
}

func (p *program) serve(cmd *cobra.Command, opts app.ServerOptions) error {
	app.LimitGarbage()
	go app.GiveBackMemory(cmd.Context())
	server, err := app.NewServer(opts)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	go func() {
		select {
		case <-server.Ready():
			a := server.Addresses()
			_ = p.printJSON(serveReady{true, a.MQTT, a.MQTTS, a.Websocket, a.HTTP, a.HTTPS, a.Pprof, app.TokenFile(opts.Data)})
		case <-server.Done():
		}
	}()
	if err := server.Run(cmd.Context()); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
