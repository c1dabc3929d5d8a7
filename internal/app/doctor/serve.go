package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"davit/bridge/mqtt"
	"davit/broker"
	"davit/internal/app"
	"davit/internal/app/address"
	"davit/internal/durable"
	"davit/internal/keystate"
	"davit/internal/machine"
	"davit/orchestrator"
	"davit/orchestrator/boltstore"
)

// Serve examines what davit serve with these options would find. invalid is what is wrong with the
// options, nil for nothing; without a data folder nothing else is looked at.
func Serve(ctx context.Context, s System, o app.ServerOptions, invalid error) []Finding {
	if o.Data == "" {
		return examine(ctx, []check{{"settings", func(context.Context) []Finding { return settings(invalid) }}}, limit)
	}
	d := &serve{System: s, o: o, running: s.runningOn(o.Data)}
	d.glance, d.looked = d.look(ctx)
	return examine(ctx, []check{
		{"settings", func(context.Context) []Finding { return settings(invalid) }},
		{"files", func(context.Context) []Finding { return files(d.files()) }},
		{"data folder", func(context.Context) []Finding { return dataFolder(o.Data) }},
		{"store", d.store},
		{"clock", func(context.Context) []Finding { return d.clock(later(d.glance.Newest, newest(o.Data))) }},
		{"disk", func(context.Context) []Finding { return s.disk(o.Data) }},
		{"ports", func(context.Context) []Finding { return s.listeners(d.listeners(), d.running) }},
		{"certificates", func(context.Context) []Finding { return d.certificates() }},
		{"image keys", func(context.Context) []Finding {
			return s.keys(o.Keys, keystate.File(filepath.Join(o.Data, app.KeyListFile)))
		}},
		{"broker", d.broker},
		{"sign-in", d.signIn},
		{"open files", func(context.Context) []Finding { return s.openFilesFor(d.glance.Devices) }},
		{"kernel", func(context.Context) []Finding { return s.kernel(d.glance.Devices) }},
	}, limit)
}

// serve is an examination of davit serve.
type serve struct {
	System
	o       app.ServerOptions
	running *machine.Process // that runs on the data folder; nil for none
	glance  orchestrator.Glance
	looked  error // why there is no glance
}

// settings are what is wrong with the settings.
func settings(invalid error) []Finding {
	if invalid != nil {
		return []Finding{failed(invalid.Error(), "correct it; davit config print shows where each value comes from")}
	}
	return []Finding{good("they go together")}
}

// runningOn is the program that holds a data folder, nil for none.
func (s System) runningOn(dir string) *machine.Process {
	if dir == "" {
		return nil
	}
	p, ok := s.Machine.Locker(filepath.Join(dir, durable.LockName))
	if !ok {
		return nil
	}
	return &p
}

func (d *serve) files() []named {
	o := d.o
	all := []named{{"--tls-cert", o.TLSCert, false}, {"--tls-key", o.TLSKey, true}, {"--mqtts-client-ca", o.ClientCA, false},
		{"--broker-password-file", o.External.PasswordFile, true}, {"--oidc-client-secret-file", o.OIDC.SecretFile, true}}
	for _, file := range o.ClientCRLs {
		all = append(all, named{"--mqtts-client-crl", file, false})
	}
	for _, file := range o.Keys.Lists {
		all = append(all, named{"--key-list", file, false})
	}
	return all
}

func (d *serve) listeners() []listener {
	o := d.o
	all := []listener{{"--http", o.HTTP}, {"--https", o.HTTPS}, {"--pprof", o.Pprof}}
	if o.External.URL == "" {
		all = append([]listener{{"--mqtt", o.MQTT}, {"--mqtts", o.MQTTS}, {"--websocket", o.Websocket}}, all...)
	}
	return all
}

// storeFile is that of the records in the data folder.
func (d *serve) storeFile() string { return filepath.Join(d.o.Data, app.StoreFile) }

// look reads a little of the store, if no service has it open.
func (d *serve) look(ctx context.Context) (g orchestrator.Glance, err error) {
	if d.running != nil {
		return g, boltstore.ErrInUse
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return orchestrator.Glanced(ctx, func(ctx context.Context, fn func(orchestrator.Reader) error) error {
		return boltstore.Look(ctx, d.storeFile(), func(r orchestrator.Reader) error {
			if err := orchestrator.CheckLayout(r); err != nil {
				return err
			}
			return fn(r)
		})
	})
}

// laidOut is what is to be said of the records' layout, nil if it is this program's.
func (d *serve) laidOut() *orchestrator.LayoutError {
	var e *orchestrator.LayoutError
	if !errors.As(d.looked, &e) {
		return nil
	}
	return e
}

// store checks that the records can be read, or how the service that has them says it is.
func (d *serve) store(ctx context.Context) []Finding {
	switch {
	case d.running != nil:
		return d.asked(ctx)
	case errors.Is(d.looked, fs.ErrNotExist):
		if err := app.RecordsGone(d.o.Data); err != nil {
			return []Finding{failed(err.Error(), "find out who took them away, before the service starts")}
		}
		return []Finding{good("there is none yet")}
	case errors.Is(d.looked, fs.ErrPermission):
		return []Finding{failed(d.looked.Error(), "run davit and its doctor as the user whose the data folder is")}
	case errors.Is(d.looked, boltstore.ErrInUse):
		return []Finding{failed(d.looked.Error(), "stop that process, or wait for its end")}
	case d.laidOut() != nil && d.laidOut().Have < orchestrator.Layout:
		return []Finding{warning(d.storeFile()+": "+d.looked.Error(), "make a backup of the folder before that: there is no way back")}
	case d.laidOut() != nil:
		return []Finding{failed(d.storeFile()+": "+d.looked.Error(), "install that version; nothing was changed")}
	case d.looked != nil:
		return []Finding{failed(d.looked.Error(), "restore a backup; davit check says what else is damaged")}
	}
	if _, err := broker.OpenCredentials(d.o.Data); err != nil {
		return []Finding{failed(err.Error(), "restore the file from a backup of the data folder")}
	}
	text := count(d.glance.Devices, "device")
	if !d.glance.Newest.IsZero() {
		text += ", last change " + stamp(d.glance.Newest)
	}
	return []Finding{good("%s can be read: %s (davit check reads all of it)", d.storeFile(), text)}
}

// asked is what the service that runs here says of itself.
func (d *serve) asked(ctx context.Context) []Finding {
	text := fmt.Sprintf("%s runs on %s", d.running, d.o.Data)
	at, ok := reachable(d.o.HTTP)
	if !ok {
		return []Finding{good("%s", text)}
	}
	if err := app.Health(ctx, at); err != nil {
		return []Finding{failed(text+"; "+err.Error(), "look at its log")}
	}
	return []Finding{good("%s and is ready", text)}
}

// reachable is the URL of a listener as this machine reaches it; false if its port is not known.
func reachable(addr string) (string, bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" {
		return "", false
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return "http://" + net.JoinHostPort(host, port), true
}

func (d *serve) certificates() []Finding {
	o := d.o
	var found []Finding
	if o.TLSCert != "" && o.TLSKey != "" {
		hosts := namedHosts(o.MQTTS, o.HTTPS, o.Websocket)
		if u, err := url.Parse(o.PublicURL); err == nil && u.Scheme == "https" && o.HTTPS != "" && len(o.TrustedProxies) == 0 {
			hosts = append(hosts, u.Hostname())
		}
		found = append(found, d.pair("the certificate", o.TLSCert, o.TLSKey, x509.ExtKeyUsageServerAuth, hosts)...)
	}
	if o.ClientCA != "" {
		found = append(found, d.authorities("--mqtts-client-ca", o.ClientCA)...)
		found = append(found, d.revocations(o.ClientCRLs)...)
	}
	return orGood(found, "none are named: there is no listener over TLS")
}

// broker checks that an external broker lets the service in.
func (d *serve) broker(ctx context.Context) []Finding {
	e := d.o.External
	if e.URL == "" {
		return []Finding{good("the embedded one")}
	}
	cfg := mqtt.Config{URL: address.Broker(e.URL), Username: e.Username, Password: password(e.PasswordFile)}
	return reach(ctx, cfg, "correct --broker-username and the file of --broker-password-file")
}

// signIn checks that the provider of OpenID Connect can be reached (OpenID Connect Discovery 1.0, section 4).
func (d *serve) signIn(ctx context.Context) []Finding {
	issuer := d.o.OIDC.Issuer
	if issuer == "" {
		return []Finding{good("with passwords and tokens; no OpenID Connect provider is named")}
	}
	const do = "check --oidc-issuer, and that this machine reaches the provider; people with passwords can sign in meanwhile"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return []Finding{failed(err.Error(), do)}
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: limit / 2}).Do(req)
	if err != nil {
		return []Finding{warning(fmt.Sprintf("the OpenID Connect provider %s cannot be reached: %v", issuer, err), do)}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return []Finding{warning(fmt.Sprintf("the OpenID Connect provider %s answers %s", issuer, resp.Status), do)}
	}
	return []Finding{good("the OpenID Connect provider %s answers", issuer)}
}

// exists says whether there is a file.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// clock is the System's, and whether retention believes it.
func (d *serve) clock(newest time.Time) []Finding {
	found := d.System.clock(newest)
	if kept, known := d.Synchronised(); kept && known || d.o.Retention == (orchestrator.Retention{}) || d.looked != nil {
		return found
	}
	right, held := d.glance.RetentionHeld(d.o.ClockConfirmed, d.Now())
	if !held {
		return found
	}
	return append(found, warning(fmt.Sprintf("the clock says %s, and the last time that is known to be right is %s: nothing is deleted for its age", stamp(d.Now()), stamp(right)),
		"set the clock, or have an NTP client keep it; if it is right, say so with --clock-confirmed "+d.Now().UTC().Format(time.DateOnly)))
}
