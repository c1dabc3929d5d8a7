package main

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"davit/bridge"
	"davit/internal/app"
	"davit/internal/app/settings"
	"davit/internal/logevent"
	"davit/internal/rehearsal"
)

// bridgeSettings are the settings of davit bridge.
type bridgeSettings struct {
	opts             app.BridgeOptions
	ports            []string
	requireSignature bool
	logs             *logFlags
}

// load gives the settings that no flag has given the values of the environment. What
// the file says is read by app.BridgeOptions.WithFile, at each reload anew.
func (s *bridgeSettings) load(cmd *cobra.Command, environ []string) (*settings.Set, []string, error) {
	set := s.set(cmd)
	warnings, err := set.Environment(environ)
	if err != nil {
		return nil, nil, usagef("bridge: %w", err)
	}
	for _, text := range s.ports {
		port, err := bridge.ParsePort(text)
		if err != nil {
			return nil, nil, usagef("bridge: %w", set.Locate(err))
		}
		s.opts.Ports = append(s.opts.Ports, port)
	}
	s.opts.Logs = s.logs.options
	s.opts.Given, s.opts.AllowUnsigned, s.opts.Elsewhere = cmd.Flags().Changed, !s.requireSignature, set.Elsewhere
	return set, warnings, nil
}

// set are the settings that the flags make.
func (s *bridgeSettings) set(cmd *cobra.Command) *settings.Set {
	set := settings.New("davit bridge", cmd.LocalNonPersistentFlags(), bridgeKeys(), "help")
	set.Elsewhere = serveNames()
	set.Shown = map[string]func() string{
		"window":          func() string { return strconv.Itoa(s.opts.Window) },
		"rotate-password": func() string { return s.opts.RotatePassword.String() },
	}
	return set
}

// bridgeKeys are the settings that are not called as their flags. DAVIT_PORT would be the variable that Kubernetes
// makes for a service that is called davit.
func bridgeKeys() map[string]string { return map[string]string{"port": "ports"} }

// bridgeNames are the settings of davit bridge, for those of other commands.
func bridgeNames() map[string]string {
	cmd := &cobra.Command{}
	new(bridgeSettings).addTo(cmd)
	return named(settings.New("davit bridge", cmd.Flags(), bridgeKeys()))
}

// addTo adds the flags of davit bridge.
func (s *bridgeSettings) addTo(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.opts.Config, "config", "", "configuration file, in YAML, by the names of these flags; SIGHUP reloads it (default none)")
	f.StringVar(&s.opts.Broker, "broker", "", "URL of the MQTT broker, mqtt://HOST:PORT or mqtts:// (required, here, in the environment or in the file)")
	f.StringVar(&s.opts.Username, "username", "", "the bridge's user name at the broker (required, here, in the environment or in the file)")
	f.StringVar(&s.opts.PasswordFile, "password-file", "", "file with its password (required, here, in the environment or in the file, unless it has a certificate)")
	into(cmd, "rotate-password", "AGE", "how old the password of --password-file gets before the bridge asks the service for another one, for example 30d (default: only when it is told to)", settingAge, func(d time.Duration) { s.opts.RotatePassword = d })
	f.StringVar(&s.opts.CAFile, "ca", "", "PEM file with the certificates that vouch for the broker (default: the system's)")
	f.StringVar(&s.opts.TLSCert, "tls-cert", "", "PEM file with the bridge's own certificate for the broker, which stands in for the password; read anew for each connection (default none)")
	f.StringVar(&s.opts.TLSKey, "tls-key", "", "PEM file with the certificate's key")
	f.StringArrayVar(&s.ports, "port", nil, "DEVICE_ID=PORT[,dialect=ayla|afero][,baud=N][,parity=odd|even|none][,rtscts=on|off][,device-type=TYPE][,version-property=NAME][,attribute-size=BYTES][,load-size=BYTES]; repeatable (required, here, in the environment or in the file)")
	addKeyFlags(cmd, &s.opts.Keys)
	f.BoolVar(&s.requireSignature, "require-signature", true, "with image keys, for which every port needs device-type, reject an image without a signature; off (=false), only signatures that there are have to be good")
	f.StringVar(&s.opts.Data, "data", "", "data folder of the bridge (required, here, in the environment or in the file; made if it is not there)")
	f.DurationVar(&s.opts.OfferInterval, "offer-interval", 0, "how long after an unanswered offer the host MCU is offered the image again (default: the dialect's)")
	f.DurationVar(&s.opts.Defer, "defer", bridge.DefaultDefer, "after how long a host MCU that is busy is asked again whether it takes an update that it may put off (soft, confirm)")
	into(cmd, "window", "SIZE", "how much of images is awaited from the service at a time; several images that are fetched at once share it (2MiB)", rehearsal.ParseSize, func(v float64) { s.opts.Window = int(v) })
	f.StringVar(&s.opts.Record, "record", "", "folder in which everything that passes on the ports is recorded, for davit sniff (default none; made if it is not there)")
	f.DurationVar(&s.opts.DrainTimeout, "drain-timeout", bridge.DefaultDrainTimeout, "how long updates that host MCUs are in the middle of may go on after SIGTERM or an interrupt; 0 ends them at once")
	f.StringVar(&s.opts.Metrics, "metrics", "", "address of a listener for /metrics, /status, /readyz and /livez (default none; port 0 takes a free one)")
	addTraceFlags(cmd, &s.opts.Traces)
	s.logs = addLogFlags(cmd, "info", logevent.BridgeParts())
	_ = f.Lookup("window").Value.Set(strconv.Itoa(bridge.DefaultWindow)) // it is one
	file(cmd, "config", "yaml", "yml", "json")
	file(cmd, "password-file")
	file(cmd, "ca", "pem", "crt", "cer")
	file(cmd, "tls-cert", "pem", "crt", "cer")
	file(cmd, "tls-key", "pem", "key")
	folder(cmd, "data")
	folder(cmd, "record")
	completeWith(cmd, "log-level", logLevels()...)
}
