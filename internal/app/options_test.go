package app

import (
	"strings"
	"testing"
)

func TestServerOptionsSayWhatIsWrong(t *testing.T) {
	good := ServerOptions{Data: "d", MQTT: "127.0.0.1:0", HTTP: "127.0.0.1:0"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		change func(*ServerOptions)
		err    string
	}{
		{func(o *ServerOptions) { o.Data = "" }, "--data"},
		{func(o *ServerOptions) { o.HTTP = "" }, "--http is empty"},
		{func(o *ServerOptions) { o.MQTT = "" }, "--mqtt is empty"},
		{func(o *ServerOptions) { o.MQTT = "1883" }, `"1883" is not HOST:PORT`},
		{func(o *ServerOptions) { o.Pprof = "6060" }, `"6060" is not HOST:PORT`},
		{func(o *ServerOptions) { o.Pprof = ":6060" }, "not on loopback"},
		{func(o *ServerOptions) { o.Pprof = "192.0.2.1:6060" }, "not on loopback"},
		{func(o *ServerOptions) { o.TLSCert = "c" }, "belong together"},
		{func(o *ServerOptions) { o.MQTTS = ":0" }, "need --tls-cert"},
		{func(o *ServerOptions) { o.Passwords = "yes" }, `--passwords is "yes"; it is auto, on or off`},
		{func(o *ServerOptions) { o.ClientAuth = "no" }, "it is require or allow"},
		{func(o *ServerOptions) { o.ClientCRLs = []string{"c"} }, "needs --mqtts-client-ca"},
		{func(o *ServerOptions) { o.ClientCA = "c" }, "needs a listener with TLS"},
		{func(o *ServerOptions) { o.ClientCA, o.Websocket = "c", ":0" }, "needs a listener with TLS"},
		{func(o *ServerOptions) { o.ClientCA, o.External.URL = "c", "mqtt://x" }, "for the embedded broker"},
		{func(o *ServerOptions) { o.External.URL = "http://x" }, `scheme "http"`},
		{func(o *ServerOptions) { o.External.URL = "mqtt://" }, "names no host"},
		{func(o *ServerOptions) { o.MaxImage = -1 }, "--max-image is -1"},
		{func(o *ServerOptions) { o.MaxImage = 1 << 40 }, "--max-image"},
	}
	for _, tt := range tests {
		o := good
		tt.change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("error %v, want %q", err, tt.err)
		}
	}
	external := ServerOptions{Data: "d", HTTP: ":0", External: ExternalBroker{URL: "broker.example:1883"}}
	if err := external.Validate(); err != nil {
		t.Errorf("external broker by HOST:PORT without --mqtt: %v", err)
	}
}
