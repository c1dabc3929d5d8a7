package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"davit/bridge/mqtt"
	"davit/internal/app"
	"davit/internal/app/address"
	"davit/internal/keystate"
	"davit/internal/machine"
)

// Bridge examines what davit bridge with these options, its file's included, would find. invalid is what
// is wrong with the options, nil for nothing; service is the URL of a service whose clock is compared,
// empty for none.
func Bridge(ctx context.Context, s System, o app.BridgeOptions, service string, invalid error) []Finding {
	if o.Data == "" {
		return examine(ctx, []check{{"settings", func(context.Context) []Finding { return settings(invalid) }}}, limit)
	}
	d := &bridgeExam{System: s, o: o, running: s.runningOn(o.Data)}
	return examine(ctx, []check{
		{"settings", func(context.Context) []Finding { return settings(invalid) }},
		{"files", func(context.Context) []Finding { return files(d.files()) }},
		{"data folder", func(context.Context) []Finding { return dataFolder(o.Data) }},
		{"bridge", d.asked},
		{"clock", func(ctx context.Context) []Finding { return d.clocks(ctx, service) }},
		{"disk", func(context.Context) []Finding { return s.disk(o.Data) }},
		{"ports", func(context.Context) []Finding {
			return s.listeners([]listener{{"--metrics", o.Metrics}}, d.running)
		}},
		{"certificates", func(context.Context) []Finding { return d.certificates() }},
		{"image keys", func(context.Context) []Finding {
			return s.keys(o.Keys, keystate.File(filepath.Join(o.Data, app.KeyListFile)))
		}},
		{"broker", d.broker},
		{"serial ports", func(context.Context) []Finding { return s.serialPorts(o.Ports, d.running) }},
		{"open files", func(context.Context) []Finding { return s.openFilesFor(2 * len(o.Ports)) }},
	}, limit)
}

// bridgeExam is an examination of davit bridge.
type bridgeExam struct {
	System
	o       app.BridgeOptions
	running *machine.Process
}

func (d *bridgeExam) files() []named {
	o := d.o
	all := []named{{"--password-file", o.PasswordFile, true}, {"--ca", o.CAFile, false}, {"--tls-cert", o.TLSCert, false}, {"--tls-key", o.TLSKey, true}}
	for _, file := range o.Keys.Lists {
		all = append(all, named{"--key-list", file, false})
	}
	return all
}

// asked is what the bridge that runs here says of itself.
func (d *bridgeExam) asked(ctx context.Context) []Finding {
	if d.running == nil {
		return []Finding{good("none runs on %s", d.o.Data)}
	}
	s, err := app.BridgeStatus(ctx, d.o.Data)
	if err != nil {
		return []Finding{warning(fmt.Sprintf("%s runs on %s and does not tell its status: %v", d.running, d.o.Data, err), "ask as its user (davit bridge status --data "+d.o.Data+")")}
	}
	if !s.Broker.Connected {
		return []Finding{failed(fmt.Sprintf("%s runs on %s and has no connection to the broker since %s", d.running, d.o.Data, stamp(s.Broker.Since)), "the line about the broker says why; look at its log as well")}
	}
	return []Finding{good("%s runs on %s and is connected to the broker", d.running, d.o.Data)}
}

func (d *bridgeExam) clocks(ctx context.Context, service string) []Finding {
	found := d.clock(newest(d.o.Data))
	if service == "" {
		return found
	}
	return append(found, d.serviceClock(ctx, service)...)
}

func (d *bridgeExam) certificates() []Finding {
	var found []Finding
	if d.o.TLSCert != "" && d.o.TLSKey != "" {
		found = append(found, d.pair("the bridge's certificate", d.o.TLSCert, d.o.TLSKey, x509.ExtKeyUsageClientAuth, nil)...)
	}
	if d.o.CAFile != "" {
		found = append(found, d.authorities("--ca", d.o.CAFile)...)
	}
	return orGood(found, "none are named; the system's authorities vouch for a broker over TLS")
}

// broker connects to the broker, unless the bridge that runs here is connected: it says so itself, and
// what it does is not disturbed.
func (d *bridgeExam) broker(ctx context.Context) []Finding {
	if d.running != nil {
		if s, err := app.BridgeStatus(ctx, d.o.Data); err == nil && s.Broker.Connected {
			return []Finding{good("%s has let the bridge in that runs here, %s", d.o.Broker, stamp(s.Broker.Since))}
		}
	}
	if d.o.Broker == "" {
		return []Finding{failed("no broker is named", "name it with --broker")}
	}
	cfg := mqtt.Config{URL: address.Broker(d.o.Broker), Username: d.o.Username, Password: password(d.o.PasswordFile)}
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return []Finding{failed("the URL of the broker is none", "write mqtt://HOST:PORT or mqtts://HOST:PORT")}
	}
	if files := (mqtt.TLSFiles{CA: d.o.CAFile, Cert: d.o.TLSCert, Key: d.o.TLSKey}); files != (mqtt.TLSFiles{}) {
		if cfg.TLS, err = files.Load(u.Hostname()); err != nil {
			return []Finding{failed(err.Error(), "correct the files; the broker was not asked without them")}
		}
	}
	found := reach(ctx, cfg, "compare with davit bridge show, or have a new password made: davit bridge rotate")
	if len(found) == 1 && found[0].Level == Fail && d.o.PasswordFile != "" && exists(d.o.PasswordFile+".previous") {
		// The bridge tries the password before as well, while a change is under way.
		cfg.Password = password(d.o.PasswordFile + ".previous")
		if err := mqtt.Probe(ctx, cfg); err == nil {
			return []Finding{good("%s answers, and lets %s in with the password before; the change of the password is under way", cfg.URL, cfg.Username)}
		} else if !errors.Is(err, mqtt.ErrCredentials) {
			return found
		}
	}
	return found
}
