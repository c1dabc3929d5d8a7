package app

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"davit/gateway"
	"davit/internal/app/address"
	"davit/internal/app/keyfile"
	"davit/orchestrator"
	"davit/schemas"
)

// DefaultMaxImage is the largest image in bytes that a Server takes unless
// told otherwise.
const DefaultMaxImage = 256 << 20

// DefaultDrain is how long HTTP requests have to end when a Server does, unless told
// otherwise.
const DefaultDrain = gateway.DefaultDrain

// DefaultMinFree is how many bytes of the disk uploads leave free unless told otherwise.
const DefaultMinFree = 100 << 20

// DefaultRequestRate is how many HTTP requests a second one user or token may make unless
// told otherwise.
const DefaultRequestRate = gateway.DefaultRequestRate

// ServerOptions configure a Server.
type ServerOptions struct {
	// Data is the data folder; it is made if it is not there.
	Data string
	// MQTT, MQTTS (over TLS), Websocket, HTTP and HTTPS are listeners'
	// addresses as HOST:PORT; an empty one is not opened, port 0 takes a free
	// one. MQTT and HTTP are needed.
	MQTT, MQTTS, Websocket string
	HTTP, HTTPS            string
	// Pprof is the address on loopback at which profiles of the process are served
	// (net/http/pprof); empty for none.
	Pprof string
	// TLSCert and TLSKey are PEM files for MQTTS and HTTPS, and for Websocket
	// if they are given.
	TLSCert, TLSKey string
	// ClientCA is a PEM file with the authorities whose client certificates are
	// believed on MQTTS, and on Websocket over TLS; empty asks for none. ClientCRLs are
	// files with their revocation lists. ClientAuth is AuthRequire, which is the default,
	// or AuthAllow.
	ClientCA   string
	ClientCRLs []string
	ClientAuth string
	// Passwords says on which MQTT listeners devices and bridges may log in with a
	// password: PasswordsAuto, which is the default, PasswordsOn or PasswordsOff.
	Passwords string
	// External is an MQTT 5 broker to use instead of the embedded one.
	External ExternalBroker
	// MaxImage is the largest image in bytes; 0 means DefaultMaxImage.
	MaxImage int64
	// MaxUpload is the longest image file in bytes as it is sent, which for text
	// formats is longer than the image; 0 means gateway.DefaultMaxUpload.
	MaxUpload int64
	// MinFree is how many bytes of the disk uploads leave free, for records; 0 means
	// DefaultMinFree.
	MinFree int64
	// Drain is how long HTTP requests have to end when the Server does; 0 means
	// gateway.DefaultDrain.
	Drain time.Duration
	// Retention says for how long what nobody needs any more is kept.
	Retention orchestrator.Retention
	// ClockConfirmed is a day on which the clock was right, as an operator says; Retention then believes it up to a
	// day after that. Zero for none.
	ClockConfirmed time.Time
	// CompactFree is how many percent of the records' file have to be free, and 64 MiB
	// besides, for it to be compacted by itself at a quiet time; 0 never does.
	CompactFree int
	// MaxInProgress is how many devices may be in progress at a time, of all jobs
	// together; 0 is no limit. Reoffers is how many offers that stand already are
	// repeated a second at most; 0 means the orchestrator's default.
	MaxInProgress, Reoffers int
	// ModuleCredit and TotalCredit are how many bytes of images may be under way to
	// one device, and to all together; 0 means the orchestrator's defaults.
	ModuleCredit, TotalCredit int64
	// MessageRate is how many messages a second a device may send, and a bridge for each of
	// its devices; ConnectRate how many times a minute one may connect; 0 means the broker's
	// defaults.
	MessageRate, ConnectRate int
	// RequestRate is how many HTTP requests a second one user or token may make; 0 means
	// DefaultRequestRate.
	RequestRate int
	// Keys say where the keys are that signatures of images are verified with; with none
	// nothing is verified. A running Server follows the files.
	Keys keyfile.Source
	// OIDC lets people sign in through OpenID Connect beside passwords.
	OIDC OIDC
	// PublicURL is where browsers find the console, for example
	// https://davit.example.com; needed for OIDC, and behind a proxy that changes
	// the host.
	PublicURL string
	// TrustedProxies are networks or addresses of proxies whose X-Forwarded-For
	// and X-Forwarded-Proto are believed.
	TrustedProxies []string
	// Traces say where spans go, to nobody by default.
	Traces TraceOptions
	Log    *slog.Logger
}

// Whether clients have to have a certificate.
const (
	AuthRequire = "require"
	AuthAllow   = "allow"
)

// Where passwords are accepted.
const (
	PasswordsAuto = "auto" // on listeners on loopback
	PasswordsOn   = "on"
	PasswordsOff  = "off"
)

// ExternalBroker says how to reach a broker that this program does not run. It
// has to give the user full rights on davit/v1/#, and to know the devices'
// credentials by itself. It does not say when a connection ends, so of a bridge
// that dies without a farewell only the first device (the one of its will) goes
// offline at once.
type ExternalBroker struct {
	URL          string // mqtt:// or mqtts://; empty for none
	Username     string
	PasswordFile string
}

// Validate checks what can be checked without touching anything.
func (o *ServerOptions) Validate() error {
	if err := o.Missing(); err != nil {
		return err
	}
	return o.Consistent()
}

// Missing says what is needed and not there.
func (o *ServerOptions) Missing() error {
	if o.Data == "" {
		return errors.New("name the data folder with --data, as DAVIT_DATA or in the file of --config")
	}
	return nil
}

// Consistent checks what is there, and tells all that is wrong with it (errors.Join).
func (o *ServerOptions) Consistent() error {
	return errors.Join(o.validateListeners(), o.Traces.Validate(), o.validateIdentity(), o.validatePeople(), o.Keys.Validate(), o.validateNumbers(), o.validateCredit())
}

// validateListeners checks addresses: those of listeners, and the other broker's.
func (o *ServerOptions) validateListeners() error {
	var wrong []error
	if o.HTTP == "" {
		wrong = append(wrong, errors.New("--http is empty; the HTTP API needs an address"))
	}
	if o.External.URL == "" && o.MQTT == "" {
		wrong = append(wrong, errors.New("--mqtt is empty; the broker needs an address, unless --broker names another broker"))
	}
	for _, l := range []struct {
		flag, addr string
		check      func(string) error
	}{
		{"--mqtt", o.MQTT, address.CheckListener}, {"--mqtts", o.MQTTS, address.CheckListener}, {"--websocket", o.Websocket, address.CheckListener},
		{"--http", o.HTTP, address.CheckListener}, {"--https", o.HTTPS, address.CheckListener}, {"--pprof", o.Pprof, address.CheckLoopback}, {"--broker", o.External.URL, address.CheckBroker},
	} {
		if l.addr == "" {
			continue
		}
		if err := l.check(l.addr); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", l.flag, err))
		}
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		wrong = append(wrong, errors.New("--tls-cert and --tls-key belong together"))
	} else if (o.MQTTS != "" || o.HTTPS != "") && o.TLSCert == "" {
		wrong = append(wrong, errors.New("--mqtts and --https need --tls-cert and --tls-key"))
	}
	return errors.Join(wrong...)
}

// validateNumbers holds numbers and times to their ranges.
func (o *ServerOptions) validateNumbers() error {
	var wrong []error
	if o.MaxImage < 0 || o.MaxImage > schemas.MaxImageSize {
		wrong = append(wrong, fmt.Errorf("--max-image is %d; allowed are 1 to %d bytes", o.MaxImage, int64(schemas.MaxImageSize)))
	}
	if o.CompactFree < 0 || o.CompactFree > 99 {
		wrong = append(wrong, fmt.Errorf("--compact-free is %d; write a share from 1 to 99 percent, or 0 for never", o.CompactFree))
	}
	if o.MinFree < 0 {
		wrong = append(wrong, fmt.Errorf("--min-free is %d bytes; it cannot be negative", o.MinFree))
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"--drain", o.Drain}, {"--keep-audit", o.Retention.Audit}, {"--keep-jobs", o.Retention.Jobs}, {"--keep-archived-images", o.Retention.ArchivedImages},
	} {
		if d.value < 0 {
			wrong = append(wrong, fmt.Errorf("%s is %v; it cannot be negative", d.flag, d.value))
		}
	}
	if d := o.Retention.Jobs; d > 0 && d < orchestrator.MinKeepJobs {
		wrong = append(wrong, fmt.Errorf("--keep-jobs is %v; it is at least %v, and 0 keeps for ever", d, orchestrator.MinKeepJobs))
	}
	for _, n := range []struct {
		flag  string
		value int
	}{
		{"--max-in-progress", o.MaxInProgress}, {"--reoffers", o.Reoffers}, {"--message-rate", o.MessageRate}, {"--connect-rate", o.ConnectRate}, {"--api-rate", o.RequestRate},
	} {
		if n.value < 0 {
			wrong = append(wrong, fmt.Errorf("%s is %d; it cannot be negative", n.flag, n.value))
		}
	}
	return errors.Join(wrong...)
}

// validateIdentity checks how devices and bridges log in.
func (o *ServerOptions) validateIdentity() error {
	var wrong []error
	switch o.Passwords {
	case "", PasswordsAuto, PasswordsOn, PasswordsOff:
	default:
		wrong = append(wrong, fmt.Errorf("--passwords is %q; it is auto, on or off", o.Passwords))
	}
	switch o.ClientAuth {
	case "", AuthRequire, AuthAllow:
	default:
		wrong = append(wrong, fmt.Errorf("--mqtts-client-auth is %q; it is require or allow", o.ClientAuth))
	}
	switch {
	case o.ClientCA == "" && len(o.ClientCRLs) > 0:
		wrong = append(wrong, errors.New("--mqtts-client-crl needs --mqtts-client-ca, which names the authorities that the lists are of"))
	case o.ClientCA == "":
	case o.External.URL != "":
		wrong = append(wrong, errors.New("--mqtts-client-ca is for the embedded broker; the one of --broker has to check certificates by itself"))
	case o.MQTTS == "" && (o.Websocket == "" || o.TLSCert == ""):
		wrong = append(wrong, errors.New("--mqtts-client-ca needs a listener with TLS, --mqtts or --websocket with --tls-cert"))
	}
	return errors.Join(wrong...)
}

// validateCredit holds the credits to what lets a device have its largest chunk, and
// all together what one may have.
func (o *ServerOptions) validateCredit() error {
	module, total := cmp.Or(o.ModuleCredit, orchestrator.DefaultModuleCredit), cmp.Or(o.TotalCredit, orchestrator.DefaultTotalCredit)
	var wrong []error
	if module < schemas.MaxChunkSize {
		wrong = append(wrong, fmt.Errorf("--module-credit is %d bytes; a device has to be sent its largest chunk, so the least is %d", module, schemas.MaxChunkSize))
		module = schemas.MaxChunkSize
	}
	if total < module {
		wrong = append(wrong, fmt.Errorf("--total-credit is %d bytes, less than the %d of one device (--module-credit)", total, module))
	}
	return errors.Join(wrong...)
}
