package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	claims "davit/bridge/module"
	"davit/bridge/mqtt"
	"davit/internal/client"
	"davit/orchestrator"
	"davit/schemas"
)

// factory is a service with a claim and what modules are given of it.
type factory struct {
	t       *testing.T
	s       *Server
	options ServerOptions
	stop    func()
	token   string
}

func newFactory(t *testing.T, uses int) *factory {
	t.Helper()
	f := &factory{t: t, options: testOptions(t, t.TempDir())}
	f.s, f.stop = startServer(t, f.options)
	ctx := t.Context()
	if _, err := f.s.service.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "pump", Dialect: "ayla"}); err != nil {
		t.Fatal(err)
	}
	made, err := f.s.service.CreateClaim(ctx, orchestrator.NewClaim{ID: "line-1", DeviceType: "pump", Uses: uses})
	if err != nil {
		t.Fatal(err)
	}
	f.token = made.Token
	return f
}

func (f *factory) config(device string) claims.ClaimConfig {
	return claims.ClaimConfig{URL: "mqtt://" + f.s.Addresses().MQTT, Token: f.token, Device: device, Nonce: claims.NewNonce()}
}

func (f *factory) claim(c claims.ClaimConfig) (string, error) {
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	return claims.Claim(ctx, c)
}

// A module claims itself and is a device like any other; whoever comes with what it has
// used once gets nothing.
func TestClaimOverMQTT(t *testing.T) {
	f := newFactory(t, 1)
	c := f.config("pump-7")
	lost, err := f.claim(c)
	if err != nil {
		t.Fatal(err)
	}
	password, err := f.claim(c) // as if the answer had been lost
	if err != nil || password == lost {
		t.Fatal(password == lost, err)
	}
	m := dialModule(t, f.s.Addresses().MQTT, "pump-7", password, "")
	m.say("pump-7", &schemas.Presence{V: 1, Online: true})
	until(t, "the device is online", func() bool {
		d, err := f.s.service.Device(t.Context(), "pump-7")
		return err == nil && d.Online
	})
	var refused *claims.ClaimRefusedError
	if _, err := f.claim(c); !errors.As(err, &refused) || refused.Reason != schemas.ErrorExists {
		t.Errorf("replayed: %v", err)
	}
	c.Nonce = claims.NewNonce()
	if _, err := f.claim(c); !errors.As(err, &refused) || refused.Reason != schemas.ErrorExists {
		t.Errorf("with another nonce: %v", err)
	}
	var out *mqtt.RefusedError
	if _, err := f.claim(f.config("pump-8")); !errors.As(err, &out) || out.Code != 0x87 {
		t.Errorf("a claim that is used up: %v", err)
	}
	c.Token += "x"
	if _, err := f.claim(c); !errors.As(err, &out) || out.Code != 0x86 {
		t.Errorf("a wrong token: %v", err)
	}
	c.Token = "davit_other"
	if _, err := f.claim(c); err == nil {
		t.Error("no token")
	}
	f.stop()
	s, err := Check(t.Context(), f.options.Data)
	if err != nil || s.Count > 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

// A hundred modules at a time with one token make as many devices as it has uses.
func TestClaimRaceOverMQTT(t *testing.T) {
	f := newFactory(t, 10)
	var race sync.WaitGroup
	var mu sync.Mutex
	passwords := map[string]string{}
	for i := range 100 {
		race.Go(func() {
			device := fmt.Sprint("pump-", i)
			password, err := f.claim(f.config(device))
			var refused *claims.ClaimRefusedError
			var out *mqtt.RefusedError
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				passwords[device] = password
			case errors.As(err, &refused) && refused.Reason == schemas.ErrorUsedUp, errors.As(err, &out) && out.Code == 0x87:
			default:
				t.Errorf("%s: %v", device, err)
			}
		})
	}
	race.Wait()
	if len(passwords) != 10 {
		t.Errorf("%d devices were made", len(passwords))
	}
	for device, password := range passwords {
		dialModule(t, f.s.Addresses().MQTT, device, password, "")
	}
	if c, err := f.s.service.Claim(t.Context(), "line-1"); err != nil || c.Used != 10 {
		t.Errorf("%+v, %v", c, err)
	}
}

// The command keeps the nonce until it has kept the password, so that one that is killed
// in between goes on.
func TestClaimDeviceGoesOn(t *testing.T) {
	f := newFactory(t, 1)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(path("token"), []byte(f.token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := ClaimOptions{Broker: f.s.Addresses().MQTT, TokenFile: path("token"), Device: "pump-7", Out: path("password"), Log: f.options.Log}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// It was killed when the device was made and the password was not kept.
	c := f.config("pump-7")
	if err := os.WriteFile(path("password.claim"), []byte(c.Nonce+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.claim(c); err != nil {
		t.Fatal(err)
	}
	if err := ClaimDevice(ctx, o); err != nil {
		t.Fatal(err)
	}
	password, err := ReadToken(path("password"))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path("password")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(path("password.claim")); err == nil {
		t.Error("the nonce is left")
	}
	dialModule(t, f.s.Addresses().MQTT, "pump-7", password, "")
	if err := ClaimDevice(ctx, o); err == nil {
		t.Error("the file is overwritten")
	}
}

// A module that comes while the service is away has its device when that is back.
func TestClaimWaitsForTheService(t *testing.T) {
	f := newFactory(t, 1)
	c := f.config("pump-7")
	f.options.MQTT = f.s.Addresses().MQTT
	f.stop()
	got := make(chan error, 1)
	go func() {
		_, err := f.claim(c)
		got <- err
	}()
	f.s, f.stop = startServer(t, f.options)
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("no answer")
	}
}

// rotate asks for another password and returns the answer.
func (m *module) rotate(name, nonce string) schemas.Rotated {
	m.t.Helper()
	m.say(name, &schemas.Rotate{V: 1, Nonce: nonce})
	var a schemas.Rotated
	if err := schemas.Decode(m.hear().Payload, &a); err != nil {
		m.t.Fatal(err)
	}
	return a
}

// A device that is told to changes its password over MQTT; an answer that was lost is
// given again, and the old password stays good until the new one is used.
func TestRotationOverMQTT(t *testing.T) {
	f := newFactory(t, 1)
	old, err := f.claim(f.config("pump-7"))
	if err != nil {
		t.Fatal(err)
	}
	addr := f.s.Addresses().MQTT
	m := dialModule(t, addr, "pump-7", old, "")
	m.subscribe(topicOf("pump-7", schemas.KindRotated))
	c := clientFor(t, f.options.Data, f.s.Addresses().HTTP)
	if n, err := c.OrderRotation(t.Context(), client.NewRotation{AllDevices: true, OlderThan: orchestrator.Duration(time.Hour)}); err != nil || n.Ordered != 0 {
		t.Errorf("passwords that are younger: %+v, %v", n, err)
	}
	if n, err := c.OrderRotation(t.Context(), client.NewRotation{Devices: []string{"pump-7"}}); err != nil || n.Ordered != 1 {
		t.Errorf("%+v, %v", n, err)
	}
	if p := m.hear(); string(p.Payload) != `{"v":1,"due":true}` {
		t.Errorf("%s", p.Payload)
	}
	first := m.rotate("pump-7", "QJ7S4M2KX5T6W3RA")
	second := m.rotate("pump-7", "QJ7S4M2KX5T6W3RA")
	if first.Password == "" || second != first {
		t.Errorf("%+v, and again %+v", first, second)
	}
	if a := m.rotate("pump-7", "another-nonce-of-it"); a.Error != schemas.ErrorBusy {
		t.Errorf("another change at once: %+v", a)
	}
	if d, err := c.DeviceDetail(t.Context(), "pump-7"); err != nil || d.Login == nil || d.Login.RotateOrdered.IsZero() || d.Login.PendingUntil.IsZero() {
		t.Errorf("%+v, %v", d.Login, err)
	}
	dialModule(t, addr, "pump-7", old, "").kill()
	dialModule(t, addr, "pump-7", second.Password, "")
	<-m.mqtt.Done()
	if d, err := c.DeviceDetail(t.Context(), "pump-7"); err != nil || !d.Login.RotateOrdered.IsZero() || !d.Login.PendingUntil.IsZero() {
		t.Errorf("%+v, %v", d.Login, err)
	}
	entries, _, err := f.s.service.AuditEntries(t.Context(), orchestrator.AuditFilter{Kind: orchestrator.KindDevice, ID: "pump-7", Action: "renew"}, orchestrator.Page{})
	if err != nil || len(entries) != 1 || entries[0].Actor.Name != "pump-7" || entries[0].Actor.Kind != orchestrator.ActorModule {
		t.Errorf("%+v, %v", entries, err)
	}
}
