package app

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"davit/bridge"
	"davit/internal/client"
	"davit/orchestrator"
)

// A bridge changes its own password when it is told to, and when it is old; whatever was
// there before does not log in any more, and a new process goes on with the file.
func TestBridgeRotatesItsPassword(t *testing.T) {
	f := newFactory(t, 1)
	ctx := t.Context()
	c := clientFor(t, f.options.Data, f.s.Addresses().HTTP)
	if _, err := c.CreateDevice(ctx, orchestrator.NewDevice{ID: "pump-1", Type: "pump"}); err != nil {
		t.Fatal(err)
	}
	made, err := c.CreateBridge(ctx, "rack", []string{"pump-1"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "rack.password")
	if err := os.WriteFile(path, []byte(made.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := BridgeOptions{Broker: f.s.Addresses().MQTT, Username: "rack", PasswordFile: path, Data: filepath.Join(dir, "bridge"),
		Ports: []bridge.PortConfig{{Device: "pump-1", Path: filepath.Join(dir, "none")}}, Log: f.options.Log}
	start := func() (stop func()) {
		t.Helper()
		b, err := NewBridge(o)
		if err != nil {
			t.Fatal(err)
		}
		return runTask(t, b)
	}
	// changed waits until another password is in force, and returns it.
	changed := func(before string) string {
		t.Helper()
		until(t, "the password is changed", func() bool {
			now, err := ReadToken(path)
			_, left := os.Stat(path + ".previous")
			b, failed := c.Bridge(ctx, "rack")
			return err == nil && now != before && left != nil && failed == nil && b.Login.RotateOrdered.IsZero() && b.Login.PendingUntil.IsZero()
		})
		now, err := ReadToken(path)
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	stop := start()
	if n, err := c.OrderRotation(ctx, client.NewRotation{Bridges: []string{"rack"}}); err != nil || n.Ordered != 1 {
		t.Fatal(n, err)
	}
	second := changed(made.Password)
	until(t, "its device is online", func() bool {
		d, err := c.Device(ctx, "pump-1")
		return err == nil && d.Online
	})
	stop()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	// The next one finds its password old; the service is another process, which has not counted the change before.
	f.options.MQTT = f.s.Addresses().MQTT
	f.stop()
	f.s, f.stop = startServer(t, f.options)
	c = clientFor(t, f.options.Data, f.s.Addresses().HTTP)
	o.RotatePassword = 24 * time.Hour
	old := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	stop = start()
	third := changed(second)
	stop()

	// It was killed when the new password was kept, and the service does not have it any more.
	if err := os.WriteFile(path, []byte("lost\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".previous", []byte(third+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.RotatePassword = 0
	stop = start()
	until(t, "it goes on with the password before", func() bool {
		now, err := ReadToken(path)
		_, left := os.Stat(path + ".previous")
		return err == nil && now == third && left != nil
	})
	stop()
}
