package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"davit/internal/durable"
	"davit/internal/logevent"
	"davit/trust"
)

// counters is the folder with each device's security counters: by image type the
// highest of the signed images that the device has reported to run. They stand
// beside the records, so that a record may be removed without them.
type counters struct{ dir string }

// countersFile is the content of a device's file.
type countersFile struct {
	V        int               `json:"v"`
	Device   string            `json:"device"`
	Counters map[string]uint64 `json:"counters"`
}

const countersVersion = 1

func (c counters) path(device string) string {
	return filepath.Join(c.dir, "device-"+device+".json")
}

// load reads a device's counters; there are none without a file. A file that is
// not whole is an error: to take it for none would let old images in again.
func (c counters) load(device string) (map[string]uint64, error) {
	b, err := os.ReadFile(c.path(device))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]uint64{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the security counters of device %s cannot be read: %w", device, err)
	}
	f, err := decodeCounters(b)
	if err == nil && (f.V != countersVersion || f.Device != device) {
		err = fmt.Errorf("it is of version %d and device %q", f.V, f.Device)
	}
	if err != nil {
		return nil, fmt.Errorf("the security counters of device %s in %s cannot be used (%w), so no signed image is taken for it: put the file back from a backup; or remove it, which lets any signed image in once more, and deploy the newest one at once", device, c.path(device), err)
	}
	return f.Counters, nil
}

func decodeCounters(b []byte) (countersFile, error) {
	var f countersFile
	if err := durable.DecodeJSON(b, &f); err != nil {
		return f, err
	}
	if f.Counters == nil {
		return f, errors.New("it has no counters")
	}
	for imageType, n := range f.Counters {
		if n > trust.MaxCounter {
			return f, fmt.Errorf("counter %d of image type %q is over %d", n, imageType, uint64(trust.MaxCounter))
		}
	}
	return f, nil
}

// raise returns when the counter on disk is n or higher.
func (c counters) raise(device, imageType string, n uint64) error {
	all, err := c.load(device)
	if err != nil {
		return err
	}
	if old, known := all[imageType]; known && old >= n {
		return nil
	}
	all[imageType] = n
	b, err := json.Marshal(countersFile{V: countersVersion, Device: device, Counters: all})
	if err != nil {
		return fmt.Errorf("security counters of device %s: %w", device, err)
	}
	if err := durable.WriteFile(c.path(device), b, 0o600); err != nil {
		return fmt.Errorf("security counters of device %s: %w", device, err)
	}
	return nil
}

// counter is the device's for an image type, those that are not on disk yet included.
func (d *device) counter(imageType string) (uint64, error) {
	all, err := d.b.counters.load(d.id)
	if err != nil {
		return 0, err
	}
	return max(all[imageType], d.raising[imageType]), nil
}

// ran notes that the device runs the execution's signed image. Before the record
// says that the execution has ended: after a crash in between it is noted again.
func (d *device) ran() {
	n := d.rec.Open.Counter
	if n == nil {
		return
	}
	imageType := d.ex.offer.ImageType
	d.raising[imageType] = max(d.raising[imageType], *n)
	d.raise()
}

// raise writes what is not on disk yet. What fails is tried again with the record.
func (d *device) raise() {
	for imageType, n := range d.raising {
		err := d.b.counters.raise(d.id, imageType, n)
		if durable.IsNoSpace(err) && d.b.spool.Spare() {
			err = d.b.counters.raise(d.id, imageType, n)
		}
		if err != nil {
			d.log.Error("a security counter could not be written; after a restart an older image might be taken until it is", "event", logevent.CounterNotWritten, "image_type", imageType, "counter", n, "error", err)
			continue
		}
		delete(d.raising, imageType)
	}
}
