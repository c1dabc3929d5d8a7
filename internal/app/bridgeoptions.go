package app

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"davit/bridge"
	"davit/internal/app/address"
	"davit/internal/app/bridgefile"
	"davit/internal/app/keyfile"
	"davit/internal/app/settings"
)

// BridgeOptions configure a Bridge.
type BridgeOptions struct {
	// Config is the configuration file that a reload reads, for which the other
	// fields are what the command line says; empty for none. WithFile reads it.
	Config string
	// Elsewhere has the settings of other commands by their names, and the command, for
	// what is said about such a key in the file.
	Elsewhere map[string]string
	// Given says whether the command line or the environment has a flag, which then wins over the
	// file; nil means that it has none.
	Given func(flag string) bool
	// Broker is the URL of the MQTT broker, or HOST:PORT.
	Broker       string
	Username     string
	PasswordFile string
	// RotatePassword is how old the password of PasswordFile gets before the bridge asks for
	// another one; 0 means that it does so only when it is told to.
	RotatePassword time.Duration
	// CAFile is a PEM file with the certificates that vouch for the broker;
	// empty means the system's.
	CAFile string
	// TLSCert and TLSKey are PEM files with the bridge's own certificate and its key,
	// which stand in for the password; empty for none. They and CAFile are read anew for each connection.
	TLSCert, TLSKey string
	Ports           []bridge.PortConfig
	// Keys say where the keys are that images have to be signed with before they reach a host
	// MCU; with none nothing is verified. They are read again by Reload.
	Keys keyfile.Source
	// AllowUnsigned lets images pass all the same that have no signature at all.
	AllowUnsigned bool
	// Data is the bridge's data folder; it is made if it is not there.
	Data string
	// OfferInterval is how long after an unanswered offer the host MCU is
	// offered the image again; 0 means the dialect's default.
	OfferInterval time.Duration
	// Defer is after how long a product that was busy is asked again whether it takes
	// an update that it may put off; 0 means bridge.DefaultDefer.
	Defer time.Duration
	// Window is how many bytes of images are asked for ahead at most; 0 means
	// bridge.DefaultWindow.
	Window int
	// Record is a folder for recordings of what passes on the ports; empty for none.
	Record string
	// DrainTimeout is how long Run goes on for MCU legs that are under way when
	// its context ends; 0 ends them at once.
	DrainTimeout time.Duration
	// Metrics is the address of a listener for /metrics, /status, /readyz and /livez; empty for none.
	Metrics string
	// Traces say where spans go, to nobody by default.
	Traces TraceOptions
	// Logs say how the program makes Log.
	Logs LogOptions
	Log  *slog.Logger

	values bridgefile.Values // what the file says
}

// Devices are the ids of the bridge's devices in the order of its ports.
func (o *BridgeOptions) Devices() []string {
	ids := make([]string, len(o.Ports))
	for i, p := range o.Ports {
		ids[i] = p.Device
	}
	return ids
}

// WithFile returns the options with what the configuration file says, where command line and
// environment say nothing. Without a file they are returned as they are. What is wrong in the file
// is a *yamlfile.Error with all of it, what does not go together as well.
func (o BridgeOptions) WithFile() (BridgeOptions, error) {
	if o.Config == "" {
		return o, nil
	}
	f, values, err := bridgefile.Load(o.Config, slices.Sorted(maps.Keys(dialects())), o.Elsewhere)
	whole := o
	whole.values = values
	whole.takeTexts(f)
	whole.takeNumbers(f)
	if err != nil {
		return o, settings.Beside(err, whole.consistent(), whole.source)
	}
	o = whole
	switch {
	case len(o.Ports) > 0 && len(f.Ports) > 0:
		return o, fmt.Errorf("--port and the ports of %s do not go together; name all ports in one of them", o.Config)
	case len(f.Ports) > 0:
		o.Ports = f.Ports
	}
	return o, nil
}

// FileValues are the settings that the file has, as WithFile has read them; of its ports only the place.
func (o *BridgeOptions) FileValues() bridgefile.Values { return o.values }

// takeTexts takes texts and lists from the file that nobody has given.
func (o *BridgeOptions) takeTexts(f bridgefile.File) {
	for _, s := range []struct {
		flag string
		to   *string
		file string
	}{
		{"broker", &o.Broker, f.Broker}, {"username", &o.Username, f.Username}, {"password-file", &o.PasswordFile, f.PasswordFile},
		{"ca", &o.CAFile, f.CA}, {"tls-cert", &o.TLSCert, f.TLSCert}, {"tls-key", &o.TLSKey, f.TLSKey}, {"data", &o.Data, f.Data}, {"metrics", &o.Metrics, f.Metrics}, {"record", &o.Record, f.Record},
	} {
		if !o.given(s.flag) {
			*s.to = s.file
		}
	}
	for _, s := range []struct { // which have values if the file says nothing
		flag string
		to   *string
		file string
	}{{"log-level", &o.Logs.Level, f.LogLevel}, {"log-format", &o.Logs.Format, f.LogFormat}, {"trace-endpoint", &o.Traces.Endpoint, f.TraceEndpoint}} {
		if !o.given(s.flag) && s.file != "" {
			*s.to = s.file
		}
	}
	for _, s := range []struct {
		flag string
		to   *[]string
		file []string
	}{{"image-keys", &o.Keys.Keys, f.ImageKeys}, {"key-list", &o.Keys.Lists, f.KeyLists}, {"root-keys", &o.Keys.Roots, f.RootKeys}} {
		if !o.given(s.flag) {
			*s.to = s.file
		}
	}
}

// takeNumbers takes the rest that is not ports.
func (o *BridgeOptions) takeNumbers(f bridgefile.File) {
	if !o.given("rotate-password") {
		o.RotatePassword = f.RotatePassword
	}
	if !o.given("offer-interval") {
		o.OfferInterval = f.OfferInterval
	}
	if !o.given("defer") && f.Defer != 0 {
		o.Defer = f.Defer
	}
	if !o.given("window") && f.Window != 0 {
		o.Window = f.Window
	}
	if !o.given("drain-timeout") && f.DrainTimeout != nil {
		o.DrainTimeout = *f.DrainTimeout
	}
	if !o.given("trace-ratio") && f.TraceRatio != nil {
		o.Traces.Ratio = *f.TraceRatio
	}
	if !o.given("image-keys-threshold") {
		o.Keys.Threshold = f.ImageKeysThreshold
	}
	if !o.given("root-keys-threshold") {
		o.Keys.RootThreshold = f.RootKeysThreshold
	}
	if !o.given("require-signature") && f.RequireSignature != nil {
		o.AllowUnsigned = !*f.RequireSignature
	}
}

func (o *BridgeOptions) given(flag string) bool { return o.Given != nil && o.Given(flag) }

// fixed are the settings that a running bridge keeps, by the names of their
// flags.
func (o *BridgeOptions) fixed() [][2]string {
	return [][2]string{
		{"broker", address.Broker(o.Broker)}, {"username", o.Username}, {"password-file", o.PasswordFile}, {"ca", o.CAFile}, {"tls-cert", o.TLSCert}, {"tls-key", o.TLSKey}, {"data", o.Data}, {"metrics", o.Metrics},
		{"log-level", o.Logs.Level}, {"log-format", o.Logs.Format}, {"trace-endpoint", o.Traces.Endpoint}, {"trace-ratio", strconv.FormatFloat(o.Traces.Ratio, 'g', -1, 64)}, {"rotate-password", o.RotatePassword.String()}, {"drain-timeout", o.DrainTimeout.String()}, {"defer", o.Defer.String()}, {"window", strconv.Itoa(o.Window)},
	}
}

// Validate checks what can be checked without touching anything. What is wrong with a
// setting of the file is a *yamlfile.Error with its line.
func (o *BridgeOptions) Validate() error {
	if err := o.Missing(); err != nil {
		return err
	}
	return o.Consistent()
}

// Missing says what is needed and not there.
func (o *BridgeOptions) Missing() error {
	switch {
	case o.Broker == "":
		return errors.New("name the broker with --broker, as DAVIT_BROKER or in the file of --config")
	case o.Username == "":
		return errors.New("give the bridge's user name with --username, as DAVIT_USERNAME or in the file of --config")
	case o.PasswordFile == "" && o.TLSCert == "" && o.TLSKey == "":
		return errors.New("name the file with the password with --password-file, or a certificate with --tls-cert and --tls-key, or one of them in the environment or in the file of --config")
	case len(o.Ports) == 0:
		return errors.New("name at least one serial port with --port, in DAVIT_PORTS or in the file of --config")
	case o.Data == "":
		return errors.New("name the data folder with --data, as DAVIT_DATA or in the file of --config")
	}
	return nil
}

// Consistent checks what is there, and tells all that is wrong with it.
func (o *BridgeOptions) Consistent() error { return settings.Locate(o.consistent(), o.source) }

// source is where the file has a setting that it decides.
func (o *BridgeOptions) source(name string) settings.Source {
	v, ok := o.values[name]
	if !ok || o.given(name) {
		return settings.Source{}
	}
	return settings.Source{Kind: settings.File, Name: o.Config, Place: v.Place}
}

func (o *BridgeOptions) consistent() error {
	var wrong []error
	add := func(flag string, err error) {
		if err != nil {
			wrong = append(wrong, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	switch {
	case (o.TLSCert == "") != (o.TLSKey == ""):
		wrong = append(wrong, errors.New("--tls-cert and --tls-key belong together"))
	case o.TLSCert != "" && o.Broker != "" && !address.Secure(o.Broker):
		wrong = append(wrong, fmt.Errorf("--tls-cert: a certificate is for a broker over TLS, and %q (--broker) is without; write mqtts:// or wss://", o.Broker))
	}
	if o.OfferInterval < 0 {
		wrong = append(wrong, fmt.Errorf("--offer-interval is %s; it cannot be negative", o.OfferInterval))
	}
	if o.DrainTimeout < 0 {
		wrong = append(wrong, fmt.Errorf("--drain-timeout is %s; 0 ends what is under way at once", o.DrainTimeout))
	}
	wrong = append(wrong, o.Logs.Validate(), o.Traces.Validate(), o.validateKeys())
	if o.Defer != 0 || o.given("defer") {
		add("defer", bridge.CheckDefer(o.Defer))
	}
	if o.Window != 0 || o.given("window") {
		add("window", bridge.CheckWindow(o.Window))
	}
	seen := map[string]bool{}
	for _, p := range o.Ports {
		if seen[p.Device] {
			wrong = append(wrong, fmt.Errorf("device %s has two ports; a line has one host MCU and a device one line", p.Device))
		}
		seen[p.Device] = true
	}
	if o.Broker != "" {
		add("broker", address.CheckBroker(o.Broker))
	}
	if o.Metrics != "" {
		add("metrics", address.CheckListener(o.Metrics))
	}
	return errors.Join(wrong...)
}
