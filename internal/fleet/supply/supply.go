// Package supply makes what a simulated fleet needs at a service, through the HTTP API:
// the image type and the device type, the devices with their passwords, an image and the
// job that brings it to the fleet. It removes the devices again, and keeps passwords in a
// file, as davit device import writes it. It knows nothing of how devices behave.
package supply

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"davit/internal/client"
	"davit/internal/fleet"
	"davit/internal/sim"
	"davit/orchestrator"
	"davit/schemas"
)

// The types of a fleet's devices.
const (
	// DeviceType is that of devices which New makes.
	DeviceType = "sim-fleet"
	// imageType is the image type of its images, which the device type enables.
	imageType = "sim-fleet"
)

// label is the label of the devices; its value is what their ids begin with.
const label = "sim_fleet"

// MaxImport is how many devices one request makes.
const MaxImport = 10_000

// Types makes image type and device type known, if they are not.
func Types(ctx context.Context, c *client.Client) error {
	_, err := c.CreateImageType(ctx, orchestrator.NewImageType{ID: imageType, Description: "Images of simulated fleets"})
	if err != nil && !client.IsStatus(err, http.StatusConflict) {
		return fmt.Errorf("make the image type %q: %w", imageType, err)
	}
	_, err = c.CreateDeviceType(ctx, orchestrator.NewDeviceType{
		ID: DeviceType, Description: "Simulated fleets", Dialect: orchestrator.DialectAyla,
		ImageTypes: []orchestrator.EnabledImageType{{ID: imageType}},
	})
	if err != nil && !client.IsStatus(err, http.StatusConflict) {
		return fmt.Errorf("make the device type %q: %w", DeviceType, err)
	}
	return nil
}

// Property is the version property that devices of the type report.
const Property = orchestrator.DefaultVersionProperty

// Devices makes n devices known, whose ids are prefix and a number, and returns what they
// connect with. progress, if there is one, is told how many there are.
func Devices(ctx context.Context, c *client.Client, prefix string, n int, progress func(made int)) ([]fleet.Login, error) {
	return More(ctx, c, prefix, nil, n, progress)
}

// More makes devices known until there are n, of which logins are there already. With an error as well it returns
// all that there are.
func More(ctx context.Context, c *client.Client, prefix string, logins []fleet.Login, n int, progress func(made int)) ([]fleet.Login, error) {
	if err := CheckPrefix(prefix, n); err != nil {
		return logins, err
	}
	for len(logins) < n {
		if ctx.Err() != nil {
			return logins, ctx.Err()
		}
		var list bytes.Buffer
		w := csv.NewWriter(&list)
		_ = w.Write([]string{"id", "type", "label." + label}) // a bytes.Buffer takes everything
		for i := range min(MaxImport, n-len(logins)) {
			_ = w.Write([]string{id(prefix, len(logins)+i+1), DeviceType, prefix})
		}
		w.Flush()
		// A request is not given up once it is made: nobody would know which devices it has made.
		report, err := c.ImportDevices(context.WithoutCancel(ctx), bytes.NewReader(list.Bytes()), true, false)
		if err != nil {
			return logins, fmt.Errorf("make the devices %s to %s: %w", id(prefix, len(logins)+1), id(prefix, n), err)
		}
		for _, l := range report.Lines {
			logins = append(logins, fleet.Login{ID: l.ID, Password: l.Password})
		}
		if progress != nil {
			progress(len(logins))
		}
	}
	return logins, nil
}

// CheckPrefix says whether the ids of n devices may begin with prefix.
func CheckPrefix(prefix string, n int) error { return schemas.ValidateID(id(prefix, n)) }

func id(prefix string, n int) string { return fmt.Sprintf("%s%05d", prefix, n) }

// Prefix is what the ids begin with, of devices that Devices has made.
func Prefix(logins []fleet.Login) string {
	if len(logins) == 0 {
		return ""
	}
	const digits = len("00001") // more of them may belong to the prefix
	first := logins[0].ID
	if n := len(first) - digits; n >= 0 && strings.Trim(first[n:], "0123456789") == "" {
		return first[:n]
	}
	return strings.TrimRight(first, "0123456789")
}

// Remove deletes devices and their credentials. Those that are not known are no error. It goes on with the others
// when one is not deleted.
func Remove(ctx context.Context, c *client.Client, logins []fleet.Login, progress func(removed int)) error {
	const together = 8 // the service writes them in one go
	var g errgroup.Group
	g.SetLimit(together)
	var left atomic.Int64
	for i, l := range logins {
		g.Go(func() error {
			if err := c.DeleteDevice(ctx, l.ID); err != nil && !client.IsStatus(err, http.StatusNotFound) {
				left.Add(1)
				return fmt.Errorf("delete the device %q: %w", l.ID, err)
			}
			return nil
		})
		if progress != nil && (i+1)%1000 == 0 {
			progress(i + 1)
		}
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("%d of %d devices are left: %w", left.Load(), len(logins), err)
	}
	return nil
}

// Image is one for devices whose ids begin with a prefix.
type Image struct{ id, name, prefix string }

// Upload makes an image of size bytes from seed, for all devices whose ids begin with prefix, and brings it to the
// service.
func Upload(ctx context.Context, c *client.Client, prefix string, size int, seed uint64) (*Image, error) {
	if size < sim.MinDemoImage {
		return nil, fmt.Errorf("the image has %d bytes, at least %d are needed", size, sim.MinDemoImage)
	}
	i := &Image{name: prefix + strconv.FormatInt(time.Now().Unix(), 36), prefix: prefix}
	version := "2.0." + strconv.FormatInt(time.Now().Unix(), 10)
	image, err := c.UploadImage(ctx, orchestrator.NewImage{
		ImageType: imageType, DeviceTypes: []string{DeviceType}, Version: version, Name: i.name, FileName: i.name + ".bin",
	}, bytes.NewReader(sim.BuildDemoImage(version, size, seed)))
	if err != nil {
		return nil, fmt.Errorf("upload the fleet's image of %d bytes: %w", size, err)
	}
	i.id = image.ID
	return i, nil
}

// Push starts a job that brings the image to its devices. It returns the job's name, with an error as well: whether
// the job was made is not known then.
func (i *Image) Push(ctx context.Context, c *client.Client) (job string, err error) {
	_, err = c.CreateJob(ctx, orchestrator.NewJob{
		Name: i.name, Image: i.id, Query: fmt.Sprintf("label.%s == %q", label, i.prefix), Start: true, Description: "Made by davit sim fleet",
	})
	if err != nil {
		err = fmt.Errorf("start the job %q: %w", i.name, err)
	}
	return i.name, err
}

// Push does both.
func Push(ctx context.Context, c *client.Client, prefix string, size int, seed uint64) (job string, err error) {
	i, err := Upload(ctx, c, prefix, size, seed)
	if err != nil {
		return "", err
	}
	return i.Push(ctx, c)
}

// ReadLogins reads a file with user names and passwords: CSV with a first line
// username,password, as davit device import --credentials-out writes it.
func ReadLogins(r io.Reader) ([]fleet.Login, error) {
	rows := csv.NewReader(r)
	head, err := rows.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty; the first line has to be username,password")
	}
	if err != nil {
		return nil, err
	}
	if !slices.Equal(head, []string{"username", "password"}) {
		return nil, fmt.Errorf("the first line is %q; it has to be username,password", strings.Join(head, ","))
	}
	var logins []fleet.Login
	known := map[string]bool{}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		line, _ := rows.FieldPos(0)
		if err := schemas.ValidateID(row[0]); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if known[row[0]] {
			return nil, fmt.Errorf("line %d: %q stands twice", line, row[0])
		}
		known[row[0]] = true
		logins = append(logins, fleet.Login{ID: row[0], Password: row[1]})
	}
	if len(logins) == 0 {
		return nil, errors.New("it has no device: one line for each follows the first")
	}
	return logins, nil
}

// WriteLogins writes what ReadLogins reads.
func WriteLogins(w io.Writer, logins []fleet.Login) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"username", "password"}); err != nil {
		return err
	}
	for _, l := range logins {
		if err := out.Write([]string{l.ID, l.Password}); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
