package observe

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"davit/bridge"
	"davit/internal/app"
	"davit/internal/client"
	"davit/internal/sim"
	"davit/orchestrator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What is in the scene. No label of a metric may be one of sceneDevices.
const (
	sceneImageType  = "application"
	sceneDeviceType = "board"
	sceneJob        = "spring"
	// sceneBaud makes an image of sceneSize take a fraction of a second.
	sceneBaud, sceneSize = 921_600, 16 << 10
	patience             = 30 * time.Second
)

// The third is never there, so that the job goes on.
var sceneDevices = []string{"unit-taking", "unit-refusing", "unit-absent"}

// scene is a service and a bridge with two host MCUs, one of which has taken an image and
// the other refused it, in a job that goes on.
type scene struct {
	t      *testing.T
	server *app.Server
	bridge *app.Bridge
	client *client.Client
	data   string
}

// newScene starts the programs and calls watch, which may be nil, with their addresses
// before anything happens. The bridge connects when the job runs already, so that its
// devices are offered the image when they say hello.
func newScene(t *testing.T, watch func(serve, bridge string)) *scene {
	t.Helper()
	s := &scene{t: t, data: t.TempDir()}
	s.serve()
	s.plug(s.records())
	if watch != nil {
		watch(s.server.Addresses().HTTP, s.bridge.MetricsAddr())
	}
	s.start()
	s.task(s.bridge.Run)
	s.ready(s.bridge.Ready(), s.bridge.Done())
	s.await()
	return s
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) log(name string) *slog.Logger {
	return slog.New(slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: slog.LevelError})).With("program", name)
}

// task runs something until the end of the test.
func (s *scene) task(run func(context.Context) error) (ended <-chan error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	return done
}

func (s *scene) ready(ready, done <-chan struct{}) {
	s.t.Helper()
	select {
	case <-ready:
	case <-done:
		s.t.Fatal("it ended before it was ready")
	case <-time.After(patience):
		s.t.Fatal("it is not ready")
	}
}

func (s *scene) serve() {
	s.t.Helper()
	cert, key := s.certificate()
	var err error
	s.server, err = app.NewServer(app.ServerOptions{
		Data: s.data, MQTT: "127.0.0.1:0", HTTP: "127.0.0.1:0", MQTTS: "127.0.0.1:0", TLSCert: cert, TLSKey: key, Log: s.log("serve"),
	})
	s.must(err)
	s.task(s.server.Run)
	s.ready(s.server.Ready(), s.server.Done())
	token, err := app.ReadToken(app.TokenFile(s.data))
	s.must(err)
	s.client, err = client.New("http://"+s.server.Addresses().HTTP, token)
	s.must(err)
	s.t.Cleanup(s.client.Close)
}

// certificate makes a certificate that ends in a month.
func (s *scene) certificate() (cert, key string) {
	s.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "davit scene"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 1, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	s.must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	s.must(err)
	dir := s.t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	s.must(os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	s.must(os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return cert, key
}

// records makes types, devices and the account of the bridge.
func (s *scene) records() (password string) {
	s.t.Helper()
	ctx := s.t.Context()
	_, err := s.client.CreateImageType(ctx, orchestrator.NewImageType{ID: sceneImageType})
	s.must(err)
	_, err = s.client.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: sceneDeviceType, Dialect: orchestrator.DialectAyla, ImageTypes: []orchestrator.EnabledImageType{{ID: sceneImageType}},
	})
	s.must(err)
	for _, id := range sceneDevices {
		_, err = s.client.CreateDevice(ctx, orchestrator.NewDevice{ID: id, Type: sceneDeviceType})
		s.must(err)
	}
	b, err := s.client.CreateBridge(ctx, "rack", sceneDevices[:2])
	s.must(err)
	return b.Password
}

// plug starts the host MCUs and makes the bridge, which does not run yet.
func (s *scene) plug(password string) {
	s.t.Helper()
	var ports []bridge.PortConfig
	for i, fault := range []sim.Fault{{}, {RejectTooLarge: true}} {
		pty, err := sim.OpenPTY(sim.LineConfig{Baud: sceneBaud, Seed: uint64(i)})
		s.must(err)
		s.t.Cleanup(func() {
			if err := pty.Close(); err != nil {
				s.t.Error(err)
			}
		})
		mcu := sim.NewMCU(sim.MCUConfig{
			Version: "1.0.0", BootTime: 50 * time.Millisecond, ConfirmAfter: 20 * time.Millisecond, EraseTime: time.Millisecond, Fault: fault, Seed: uint64(i),
		})
		s.task(func(ctx context.Context) error {
			_ = mcu.Run(ctx, pty.MCU()) // an error is the end of its line
			return nil
		})
		ports = append(ports, bridge.PortConfig{Device: sceneDevices[i], Path: pty.Path(), Baud: sceneBaud})
	}
	file := filepath.Join(s.t.TempDir(), "password")
	s.must(os.WriteFile(file, []byte(password), 0o600))
	var err error
	s.bridge, err = app.NewBridge(app.BridgeOptions{
		Broker: "mqtt://" + s.server.Addresses().MQTT, Username: "rack", PasswordFile: file, Data: filepath.Join(s.t.TempDir(), "rack"),
		Ports: ports, Metrics: "127.0.0.1:0", Log: s.log("bridge"),
	})
	s.must(err)
}

// start uploads an image and starts the job.
func (s *scene) start() {
	s.t.Helper()
	ctx := s.t.Context()
	image, err := s.client.UploadImage(ctx, orchestrator.NewImage{
		ImageType: sceneImageType, DeviceTypes: []string{sceneDeviceType}, Version: "2.0.0", FileName: "scene.bin",
	}, bytes.NewReader(sim.BuildDemoImage("2.0.0", sceneSize, 1)))
	s.must(err)
	_, err = s.client.CreateJob(ctx, orchestrator.NewJob{Name: sceneJob, Image: image.ID, Devices: sceneDevices})
	s.must(err)
	_, err = s.client.StartJob(ctx, sceneJob)
	s.must(err)
}

// await waits until the job has ended on the devices that are there.
func (s *scene) await() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	errEnded := errors.New("both have ended")
	ended := map[string]bool{}
	_, err := app.WatchJob(ctx, s.client, sceneJob, app.WatchFuncs{
		Execution: func(e orchestrator.Execution) error {
			if e.State.Final() {
				ended[e.Device+" "+string(e.State)] = true
			}
			if ended[sceneDevices[0]+" succeeded"] && ended[sceneDevices[1]+" rejected"] {
				return errEnded
			}
			return nil
		},
		Job: func(orchestrator.Job) error { return nil },
	})
	if !errors.Is(err, errEnded) {
		s.t.Fatalf("the job: %v, with %v", err, ended)
	}
}
