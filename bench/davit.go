package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"davit/internal/client"
	"davit/orchestrator"
	"davit/schemas"
)

// The records that the service is given.
const (
	imageType  = "application"
	deviceType = "module"
	oldVersion = "1.0.0"
	newVersion = "2.0.0"
	jobName    = "bench"
)

// davit is `davit serve` with devices that are offered an image.
type davit struct {
	*process
	binary, data string
	mqtt, http   string // HOST:PORT, and URL
	pprof        string // HOST:PORT with --pprof
	client       *client.Client
	devices      []string
	passwords    map[string]string
	image        orchestrator.Image
}

// buildDavit makes the program from the source tree that this one belongs to.
func buildDavit(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(dir, "davit")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "davit/cmd/davit")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build davit: %w\n%s", err, out)
	}
	return binary, nil
}

// startDavit runs the program on a new data folder in dir.
func startDavit(binary, dir string, flags ...string) (*davit, error) {
	data, err := os.MkdirTemp(dir, "davit-")
	if err != nil {
		return nil, err
	}
	d := &davit{binary: binary, data: data, passwords: map[string]string{}}
	if err := d.serve("127.0.0.1:0", flags...); err != nil {
		return nil, err
	}
	return d, nil
}

// serve starts the process and waits until it is ready.
func (d *davit) serve(mqtt string, flags ...string) error {
	args := append([]string{"serve", "--data", d.data, "--mqtt", mqtt, "--http", "127.0.0.1:0", "--log-level", "error"}, flags...)
	r, w := io.Pipe()
	p, err := startProcess("davit serve", exec.Command(d.binary, args...), w)
	if err != nil {
		return err
	}
	d.process = p
	go func() {
		<-p.done
		_ = w.Close() // a pipe in memory
	}()
	line, err := firstLine(r)
	if err != nil {
		return p.ended()
	}
	var ready struct{ MQTT, HTTP, Pprof string }
	if err := json.Unmarshal(line, &ready); err != nil {
		return fmt.Errorf("davit serve said %q: %w", line, err)
	}
	d.mqtt, d.http, d.pprof = ready.MQTT, "http://"+ready.HTTP, ready.Pprof
	token, err := os.ReadFile(filepath.Join(d.data, "admin.token"))
	if err != nil {
		return err
	}
	d.client, err = client.New(d.http, strings.TrimSpace(string(token)))
	return err
}

// importMost is how many devices one import has.
const importMost = 5_000

// populate makes n devices known, each with its own password.
func (d *davit) populate(ctx context.Context, n int) error {
	if _, err := d.client.CreateImageType(ctx, orchestrator.NewImageType{ID: imageType}); err != nil {
		return err
	}
	_, err := d.client.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: deviceType, Dialect: orchestrator.DialectAyla, ImageTypes: []orchestrator.EnabledImageType{{ID: imageType}},
	})
	if err != nil {
		return err
	}
	for len(d.devices) < n {
		var csv bytes.Buffer
		csv.WriteString("id,type\n")
		for range min(importMost, n-len(d.devices)) {
			id := fmt.Sprintf("m-%05d", len(d.devices))
			d.devices = append(d.devices, id)
			fmt.Fprintf(&csv, "%s,%s\n", id, deviceType)
		}
		report, err := d.client.ImportDevices(ctx, &csv, true, false)
		if err != nil {
			return err
		}
		for _, l := range report.Lines {
			d.passwords[l.ID] = l.Password
		}
	}
	return nil
}

// offer uploads an image and starts a job that offers it to all devices, and waits
// until it is offered.
func (d *davit) offer(ctx context.Context, image []byte) error {
	if err := d.startJob(ctx, image, fmt.Sprintf("type == %q", deviceType), nil); err != nil {
		return err
	}
	return d.allOffered(ctx)
}

// startJob uploads an image and starts a job that brings it to whom the query finds.
func (d *davit) startJob(ctx context.Context, image []byte, query string, rollout *orchestrator.Rollout) error {
	var err error
	n := orchestrator.NewImage{ImageType: imageType, DeviceTypes: []string{deviceType}, Version: newVersion}
	if d.image, err = d.client.UploadImage(ctx, n, bytes.NewReader(image)); err != nil {
		return err
	}
	_, err = d.client.CreateJob(ctx, orchestrator.NewJob{Name: jobName, Image: d.image.ID, Query: query, Rollout: rollout, Start: true})
	return err
}

// allOffered waits until the job has offered its image to all devices, a few of which may
// have answered by then.
func (d *davit) allOffered(ctx context.Context) error {
	for deadline := time.Now().Add(2 * patience); ; time.Sleep(50 * time.Millisecond) {
		job, _, err := d.client.Job(ctx, jobName)
		if err != nil {
			return err
		}
		offered := 0
		for state, n := range job.Counts {
			if state != schemas.StateQueued {
				offered += n
			}
		}
		switch {
		case offered == len(d.devices):
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("of %d devices %d are offered the image after %s", len(d.devices), offered, 2*patience)
		}
	}
}

// connect brings the first n devices' modules up.
func (d *davit) connect(modules []*module, n int, image []byte) ([]*module, error) {
	had := len(modules)
	modules = append(modules, make([]*module, max(0, n-had))...)
	err := each(n-had, func(i int) (err error) {
		id := d.devices[had+i]
		modules[had+i], err = dialModule(d.mqtt, id, d.passwords[id], image)
		return err
	})
	return modules, err
}
