package broker

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/alexedwards/argon2id"

	"davit/internal/durable"
	"davit/schemas"
)

// CredentialsFile is the name of the credentials file in the data folder.
const CredentialsFile = "credentials.json"

// Errors of Credentials, for errors.Is.
var (
	// ErrNameTaken: a device or bridge of that name has credentials.
	ErrNameTaken = errors.New("name has credentials already")
	// ErrNoPrincipal: no device or bridge of that name has credentials.
	ErrNoPrincipal = errors.New("no credentials under that name")
	// ErrNotBridge: the name is a device's.
	ErrNotBridge = errors.New("not a bridge")
)

// errUnchanged ends an update that has nothing to write.
var errUnchanged = errors.New("nothing to change")

// PrincipalKind says what a principal is.
type PrincipalKind string

// The kinds of principals in the credentials file.
const (
	PrincipalDevice PrincipalKind = "device"
	PrincipalBridge PrincipalKind = "bridge"
)

// Principal is one entry of the credentials file, without its secret. Its
// name is the MQTT user name.
type Principal struct {
	Name string        `json:"name"`
	Kind PrincipalKind `json:"kind"`
	// Devices that it may act for; a device's own id for a device.
	Devices []string `json:"devices"`
}

// record is a principal as the file has it.
type record struct {
	Principal
	// Hash of the password: an argon2id PHC string.
	Hash string `json:"hash"`
	// Unused: the password was made for a claim, and nobody has logged in with it. While
	// that is so, its answer may have been lost, and another may take its place.
	Unused bool `json:"unused,omitempty"`
	// Since is when the password was made; zero in files of before that was noted.
	Since instant `json:"since,omitzero"`
	// Ordered is since when the password is to be changed.
	Ordered instant `json:"rotate_ordered,omitzero"`
	// Pending is the password that takes the place of this one when it is used.
	Pending *pendingPassword `json:"pending,omitempty"`
}

// newRecord is a principal with a password that is made now.
func newRecord(p Principal, hash string) record {
	return record{Principal: p, Hash: hash, Since: instantOf(time.Now())}
}

type fileFormat struct {
	Version    int      `json:"version"`
	Principals []record `json:"principals"`
}

const fileVersion = 1

// hashParams returns the cost of new hashes, modest on purpose. Argon2's cost protects passwords that
// people choose; ours are generated with 130 random bits, which nobody finds by
// trying however cheap a try is. What is left to gain is that a file that was
// copied gives no password away, for which any hash will do. What is to lose is
// the broker: after a restart a whole fleet verifies at once, and at the
// customary 64 MiB and 50 ms each, 10,000 devices would take minutes, and at 1 MiB
// and 1 ms, which it was once, as much processor time as all the rest of a
// connection, half of it for the garbage. 64 KiB take 0.1 ms.
func hashParams() *argon2id.Params {
	return &argon2id.Params{Memory: 64, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32}
}

// Bounds on the parameters of hashes that come from the file.
const (
	maxHashMemory     = 64 << 10 // KiB
	maxHashIterations = 10
	maxHashLanes      = 16
)

// entry is a principal in memory.
type entry struct {
	record
	who *principal
}

// Credentials is the store of the passwords of devices and bridges. Every
// change is on disk when the method returns, and live connections of the
// principal have been told to end. One process writes the file; Reload picks up
// changes that were made by hand. All methods may be called at any time.
type Credentials struct {
	path string

	change sync.Mutex // held while changes are made; taken before mu
	queue  sync.Mutex // guards edits
	edits  []*edit    // that wait for change
	save   func(map[string]*entry) error

	mu       sync.RWMutex
	entries  map[string]*entry
	onRevoke func(name string)
	onOrder  func(name string)
	// quarantined devices are nobody's, whatever the lists say (quarantine.go).
	quarantined map[string]struct{}
	// bare are devices that have come with a certificate and have no entry.
	bare map[string]*principal

	verifier *verifier
}

// OpenCredentials reads DIR/credentials.json. A file that is not there is an
// empty one.
func OpenCredentials(dir string) (*Credentials, error) {
	c := &Credentials{path: filepath.Join(dir, CredentialsFile), verifier: newVerifier()}
	c.save = c.write
	entries, err := c.read()
	if err != nil {
		return nil, err
	}
	c.entries = entries
	return c, nil
}

// AddDevice creates credentials for a device and returns the password, which
// is kept nowhere.
func (c *Credentials) AddDevice(id string) (password string, err error) {
	return c.add(Principal{Name: id, Kind: PrincipalDevice, Devices: []string{id}})
}

// PutDevices gives each of the devices a new password, whether or not it had
// one, in one change: all of them or none. It returns the passwords by device.
func (c *Credentials) PutDevices(ctx context.Context, ids []string) (map[string]string, error) {
	passwords := make(map[string]string, len(ids))
	records := make([]record, 0, len(ids))
	for _, id := range ids {
		if err := ctx.Err(); err != nil { // ten thousand hashes take seconds
			return nil, err
		}
		p := Principal{Name: id, Kind: PrincipalDevice, Devices: []string{id}}
		if err := checkPrincipal(p); err != nil {
			return nil, err
		}
		password, hash, err := newPassword()
		if err != nil {
			return nil, err
		}
		passwords[id] = password
		records = append(records, newRecord(p, hash))
	}
	err := c.update(func(m map[string]*entry) error {
		for _, r := range records {
			if old := m[r.Name]; old != nil && old.Kind != PrincipalDevice {
				return fmt.Errorf("%w: %s %q; device and bridge names share one name space", ErrNameTaken, old.Kind, r.Name)
			}
		}
		for _, r := range records {
			m[r.Name] = newEntry(r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("add devices: %w", err)
	}
	return passwords, nil
}

// Forget removes the device's credentials, if it has any, and takes the device
// off the lists of all bridges, whose connections end: a device of the same name
// that is made later is another one.
func (c *Credentials) Forget(device string) error {
	err := c.update(func(m map[string]*entry) error {
		changed := false
		if e := m[device]; e != nil && e.Kind == PrincipalDevice {
			delete(m, device)
			changed = true
		}
		for name, e := range m {
			if e.Kind != PrincipalBridge || !slices.Contains(e.Devices, device) {
				continue
			}
			r := e.record
			r.Devices = slices.DeleteFunc(slices.Clone(r.Devices), func(d string) bool { return d == device })
			m[name] = newEntry(r)
			changed = true
		}
		if !changed {
			return errUnchanged // the file need not be written
		}
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return fmt.Errorf("forget device %q: %w", device, err)
	}
	c.dropBare(device)
	c.Release(device) // one of the same name that is made later is another one
	return nil
}

// AddBridge creates credentials for a bridge that acts for devices.
func (c *Credentials) AddBridge(id string, devices []string) (password string, err error) {
	return c.add(Principal{Name: id, Kind: PrincipalBridge, Devices: slices.Clone(devices)})
}

func (c *Credentials) add(p Principal) (string, error) {
	if err := checkPrincipal(p); err != nil {
		return "", err
	}
	password, hash, err := newPassword()
	if err != nil {
		return "", err
	}
	err = c.update(func(m map[string]*entry) error {
		if old := m[p.Name]; old != nil {
			return fmt.Errorf("%w: %s %q; rotate its password or remove it first", ErrNameTaken, old.Kind, p.Name)
		}
		m[p.Name] = newEntry(newRecord(p, hash))
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("add %s: %w", p.Kind, err)
	}
	return password, nil
}

// Rotate replaces the password of a device or bridge.
func (c *Credentials) Rotate(name string) (password string, err error) {
	password, hash, err := newPassword()
	if err != nil {
		return "", err
	}
	err = c.update(func(m map[string]*entry) error {
		old := m[name]
		if old == nil {
			return fmt.Errorf("%w: %q", ErrNoPrincipal, name)
		}
		m[name] = newEntry(newRecord(old.Principal, hash))
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("rotate password: %w", err)
	}
	return password, nil
}

// SetBridgeDevices replaces the list of devices that a bridge acts for. Its
// connections end; it comes back with the same password.
func (c *Credentials) SetBridgeDevices(id string, devices []string) error {
	if err := checkPrincipal(Principal{Name: id, Kind: PrincipalBridge, Devices: devices}); err != nil {
		return err
	}
	err := c.update(func(m map[string]*entry) error {
		old := m[id]
		switch {
		case old == nil:
			return fmt.Errorf("%w: %q", ErrNoPrincipal, id)
		case old.Kind != PrincipalBridge:
			return fmt.Errorf("%w: %q is a %s", ErrNotBridge, id, old.Kind)
		}
		r := old.record
		r.Devices = slices.Clone(devices)
		m[id] = newEntry(r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("set bridge devices: %w", err)
	}
	return nil
}

// Remove deletes the credentials of a device or bridge.
func (c *Credentials) Remove(name string) error {
	err := c.update(func(m map[string]*entry) error {
		if m[name] == nil {
			return fmt.Errorf("%w: %q", ErrNoPrincipal, name)
		}
		delete(m, name)
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove credentials: %w", err)
	}
	return nil
}

// Get returns the principal of that name, and false if there is none.
func (c *Credentials) Get(name string) (Principal, bool) {
	e := c.lookup(name)
	if e == nil {
		return Principal{}, false
	}
	p := e.Principal
	p.Devices = slices.Clone(p.Devices)
	return p, true
}

// List returns all principals by name.
func (c *Credentials) List() []Principal {
	c.mu.RLock()
	defer c.mu.RUnlock()
	list := make([]Principal, 0, len(c.entries))
	for _, name := range slices.Sorted(maps.Keys(c.entries)) {
		p := c.entries[name].Principal
		p.Devices = slices.Clone(p.Devices)
		list = append(list, p)
	}
	return list
}

// Reload reads the file again. Principals that are gone or changed lose their
// connections; if the file cannot be used, nothing changes.
func (c *Credentials) Reload() error {
	c.change.Lock()
	defer c.change.Unlock()
	fresh, err := c.read()
	if err != nil {
		return err
	}
	for name, e := range fresh {
		if old := c.entries[name]; old != nil && sameRecord(old.record, e.record) {
			fresh[name] = old
		}
	}
	c.install(fresh)
	return nil
}

func sameRecord(a, b record) bool {
	return a.Kind == b.Kind && a.Hash == b.Hash && a.Unused == b.Unused && a.Since == b.Since && a.Ordered == b.Ordered && a.Pending.same(b.Pending) && slices.Equal(a.Devices, b.Devices)
}

// edit is one change that somebody waits for. A make that fails has changed nothing.
// What is below it is guarded by Credentials.change.
type edit struct {
	make func(map[string]*entry) error
	over bool
	err  error
}

var errNotMade = errors.New("the change of credentials was not made")

// update makes one change: it works on a copy, which replaces the entries once it is on
// disk. The whole file is written for that, so changes that come meanwhile are made
// together with the next writing: a fleet that claims its devices, or changes its
// passwords, at once costs some writings and not one for each.
func (c *Credentials) update(change func(map[string]*entry) error) error {
	x := &edit{make: change, err: errNotMade}
	c.queue.Lock()
	c.edits = append(c.edits, x)
	c.queue.Unlock()
	c.change.Lock()
	defer c.change.Unlock()
	if !x.over {
		c.makeEdits()
	}
	return x.err
}

// makeEdits makes the changes that wait, together; c.change is held.
func (c *Credentials) makeEdits() {
	c.queue.Lock()
	edits := c.edits
	c.edits = nil
	c.queue.Unlock()
	for _, x := range edits {
		x.over = true
	}
	fresh := maps.Clone(c.entries) // entries is only written under change
	var made []*edit
	for _, x := range edits {
		if err := x.make(fresh); err != nil {
			x.err = err
		} else {
			made = append(made, x)
		}
	}
	if len(made) == 0 {
		return
	}
	err := c.save(fresh)
	if err == nil {
		c.install(fresh)
	}
	for _, x := range made {
		x.err = err
	}
}

// install makes fresh the truth and revokes what it replaces, but for entries that keep
// the principal of the one before; c.change is held.
func (c *Credentials) install(fresh map[string]*entry) {
	c.mu.Lock()
	old := c.entries
	for name, e := range fresh {
		if !e.keeps(old[name]) {
			e.who = c.free(e.record)
		}
	}
	c.entries = fresh
	onRevoke := c.onRevoke
	c.mu.Unlock()
	for name, e := range fresh {
		if !e.keeps(old[name]) {
			c.dropBare(name)
		}
	}
	for name, e := range old {
		if e.keeps(fresh[name]) {
			continue
		}
		e.who.revoked.Store(true)
		c.verifier.forget(name)
		if onRevoke != nil {
			onRevoke(name)
		}
	}
}

// watch sets what is called, after the fact, with the name of each principal
// whose credentials change, and of each whose password is to be changed.
func (c *Credentials) watch(onRevoke, onOrder func(name string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onRevoke, c.onOrder = onRevoke, onOrder
}

func (c *Credentials) lookup(name string) *entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.entries[name]
}

func newEntry(r record) *entry {
	return &entry{record: r, who: newPrincipal(r.Name, r.Devices)}
}

// changed is an entry with another record of the same principal, whose connections go on.
func (e *entry) changed(r record) *entry { return &entry{record: r, who: e.who} }

// keeps says whether the connections that one of two entries stands for are the other's.
func (e *entry) keeps(other *entry) bool { return other != nil && e.who == other.who }

func newPassword() (password, hash string, err error) {
	password = rand.Text()
	hash, err = argon2id.CreateHash(password, hashParams())
	if err != nil {
		return "", "", fmt.Errorf("hash password: %w", err)
	}
	return password, hash, nil
}

func (c *Credentials) write(entries map[string]*entry) error {
	f := fileFormat{Version: fileVersion, Principals: make([]record, 0, len(entries))}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		f.Principals = append(f.Principals, entries[name].record)
	}
	data, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return fmt.Errorf("encode credentials: %w", err)
	}
	if err := durable.WriteFile(c.path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", c.path, err)
	}
	return nil
}

func (c *Credentials) read() (map[string]*entry, error) {
	data, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return make(map[string]*entry), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	var f fileFormat
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("credentials file %s is damaged: %w; put it back from a backup (davit restore FILE --data NEW makes a folder that has it)", c.path, err)
	}
	if f.Version != fileVersion {
		return nil, fmt.Errorf("credentials file %s has version %d, this program knows %d; install a davit that is as new as the one that wrote it", c.path, f.Version, fileVersion)
	}
	entries := make(map[string]*entry, len(f.Principals))
	for _, r := range f.Principals {
		if err := checkRecord(r); err != nil {
			return nil, fmt.Errorf("credentials file %s: %w", c.path, err)
		}
		if entries[r.Name] != nil {
			return nil, fmt.Errorf("credentials file %s: two entries for %q", c.path, r.Name)
		}
		entries[r.Name] = newEntry(r)
	}
	return entries, nil
}

func checkPrincipal(p Principal) error {
	if err := schemas.ValidateID(p.Name); err != nil {
		return fmt.Errorf("%s name: %w", p.Kind, err)
	}
	switch p.Kind {
	case PrincipalDevice:
		if !slices.Equal(p.Devices, []string{p.Name}) {
			return fmt.Errorf("device %q acts for itself and for no other", p.Name)
		}
		return nil
	case PrincipalBridge:
	default:
		return fmt.Errorf("%q is of unknown kind %q", p.Name, p.Kind)
	}
	seen := make(map[string]bool, len(p.Devices))
	for _, d := range p.Devices {
		if err := schemas.ValidateID(d); err != nil {
			return fmt.Errorf("device of bridge %q: %w", p.Name, err)
		}
		if seen[d] {
			return fmt.Errorf("device %q stands twice in the list of bridge %q", d, p.Name)
		}
		seen[d] = true
	}
	return nil
}

func checkRecord(r record) error {
	if err := checkPrincipal(r.Principal); err != nil {
		return err
	}
	if r.Pending != nil {
		if err := checkHash(r.Name, r.Pending.Hash); err != nil {
			return err
		}
	}
	return checkHash(r.Name, r.Hash)
}

func checkHash(name, hash string) error {
	p, _, _, err := argon2id.DecodeHash(hash)
	if err != nil {
		return fmt.Errorf("password hash of %q: %w", name, err)
	}
	if p.Memory > maxHashMemory || p.Iterations < 1 || p.Iterations > maxHashIterations ||
		p.Parallelism < 1 || p.Parallelism > maxHashLanes || p.SaltLength < 8 || p.KeyLength < 16 || p.KeyLength > 64 {
		return fmt.Errorf("password hash of %q: parameters m=%d,t=%d,p=%d are outside what this program accepts (m up to %d, t up to %d, p up to %d)",
			name, p.Memory, p.Iterations, p.Parallelism, maxHashMemory, maxHashIterations, maxHashLanes)
	}
	return nil
}
