package app

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"davit/bridge"
)

// The command line wins over the configuration file, and what neither says is
// left out.
func TestBridgeOptionsWithFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "bridge.yaml")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags := func(given ...string) BridgeOptions {
		o := BridgeOptions{Config: file, Given: func(flag string) bool {
			for _, g := range given {
				if g == flag {
					return true
				}
			}
			return false
		}}
		v := reflect.ValueOf(&o).Elem()
		for flag, field := range map[string]string{
			"broker": "Broker", "username": "Username", "password-file": "PasswordFile", "ca": "CAFile", "tls-cert": "TLSCert", "tls-key": "TLSKey", "data": "Data", "metrics": "Metrics", "record": "Record",
		} {
			if o.Given(flag) {
				v.FieldByName(field).SetString("flag " + flag)
			}
		}
		return o
	}
	whole := "broker: b:1\nusername: u\npassword-file: p\nca: c\ntls-cert: x\ntls-key: y\ndata: d\nmetrics: m:1\nrecord: r\noffer-interval: 3s\ndefer: 7s\nports:\n  - {device: a, port: /dev/x, dialect: afero}\n"
	write(whole)
	fromFile := BridgeOptions{
		Broker: "b:1", Username: "u", PasswordFile: filepath.Join(dir, "p"), CAFile: filepath.Join(dir, "c"), TLSCert: filepath.Join(dir, "x"), TLSKey: filepath.Join(dir, "y"), Data: filepath.Join(dir, "d"), Metrics: "m:1",
		Record: filepath.Join(dir, "r"), OfferInterval: 3 * time.Second, Defer: 7 * time.Second, Ports: []bridge.PortConfig{{Device: "a", Path: "/dev/x", Dialect: "afero"}},
	}
	read := func(flags BridgeOptions) BridgeOptions {
		t.Helper()
		o, err := flags.WithFile()
		if err != nil {
			t.Fatal(err)
		}
		o.Config, o.Given, o.values = "", nil, nil
		return o
	}
	if got := read(flags()); !reflect.DeepEqual(got, fromFile) {
		t.Errorf("the file alone gives %+v", got)
	}
	want := fromFile
	want.Broker, want.Username, want.PasswordFile, want.CAFile, want.TLSCert, want.TLSKey, want.Data, want.Metrics, want.Record =
		"flag broker", "flag username", "flag password-file", "flag ca", "flag tls-cert", "flag tls-key", "flag data", "flag metrics", "flag record"
	if got := read(flags("broker", "username", "password-file", "ca", "tls-cert", "tls-key", "data", "metrics", "record")); !reflect.DeepEqual(got, want) {
		t.Errorf("flags and file give %+v", got)
	}
	none := flags("metrics", "offer-interval")
	none.Metrics, none.OfferInterval = "", time.Minute // as --metrics '' has it
	if got := read(none); got.Metrics != "" || got.OfferInterval != time.Minute {
		t.Errorf("metrics %q, offer interval %v", got.Metrics, got.OfferInterval)
	}
	flagged := flags("defer")
	flagged.Defer = time.Minute
	if got := read(flagged); got.Defer != time.Minute {
		t.Errorf("put off for %v", got.Defer)
	}
	both := flags("port")
	both.Ports = []bridge.PortConfig{{Device: "b", Path: "/dev/y"}}
	if _, err := both.WithFile(); err == nil || !strings.Contains(err.Error(), "--port and the ports of "+file+" do not go together") {
		t.Errorf("ports in both: %v", err)
	}
	write("broker: b:1\n")
	if got := read(both); !reflect.DeepEqual(got.Ports, both.Ports) || got.Broker != "b:1" {
		t.Errorf("ports by flags alone: %+v", got)
	}
	write("broker: b:1\ndialect: x\n")
	if _, err := flags().WithFile(); err == nil || !strings.HasPrefix(err.Error(), file+":2:1: dialect is not known") {
		t.Errorf("a bad file: %v", err)
	}
}
