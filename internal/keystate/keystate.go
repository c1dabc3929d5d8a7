// Package keystate remembers on disk which key list was accepted last, so that an older
// one that is put in the place of its file is refused after a restart as well. (The Update
// Framework, section 5.3.5: a version lower than the trusted one is a rollback attack.)
//
// What is remembered holds for the pinned root keys that the list was reached from. Other
// root keys are a decision of whoever configures the program, and begin anew; so they are the way out
// after a list was accepted whose followers are lost.
package keystate

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"davit/internal/durable"
	"davit/trust"
)

// File remembers key lists in the file of that name, whose folder has to be there and is
// no other process's. Its calls are for one goroutine at a time.
type File string

// content of the file.
type content struct {
	V int `json:"v"`
	// Lists are by KeyRing.Anchor.
	Lists map[string]list `json:"lists"`
}

// list is the newest one that was accepted.
type list struct {
	Version uint64 `json:"version"`
	SHA256  string `json:"sha256"` // KeyRing.Digest
}

const contentV = 1

// Accept returns nil once the list is on disk as the newest that was accepted for its root
// keys. It refuses one that is older, or another of the same version, with
// trust.ErrKeyListRollback; and any if what it remembers cannot be read, for to take that
// for nothing would let old lists in. A nil ring is no list, and there is nothing to remember.
func (f File) Accept(ring *trust.KeyRing) error {
	if ring == nil {
		return nil
	}
	known, now, err := f.compare(ring)
	if err != nil || known[ring.Anchor()] == now {
		return err
	}
	known[ring.Anchor()] = now
	b, err := json.Marshal(content{contentV, known})
	if err == nil {
		const owner = 0o600
		err = durable.WriteFile(string(f), b, owner)
	}
	if err != nil {
		return fmt.Errorf("version %d of the key list cannot be remembered, so it is not accepted: %w", now.Version, err)
	}
	return nil
}

// Check returns what Accept would refuse a list with, and changes nothing.
func (f File) Check(ring *trust.KeyRing) error {
	if ring == nil {
		return nil
	}
	_, _, err := f.compare(ring)
	return err
}

// compare returns what is remembered and what the list is, and refuses one that is older.
func (f File) compare(ring *trust.KeyRing) (known map[string]list, now list, err error) {
	if known, err = f.load(); err != nil {
		return nil, now, err
	}
	now = list{ring.Version(), ring.Digest()}
	last := known[ring.Anchor()]
	switch {
	case now == last:
	case now.Version < last.Version:
		return known, now, &trust.Refusal{Reason: trust.ErrKeyListRollback, Text: fmt.Sprintf("the key list has version %d, and version %d was accepted before from the same root keys; put the newest list in its place, or pin other root keys", now.Version, last.Version)}
	case now.Version == last.Version:
		return known, now, &trust.Refusal{Reason: trust.ErrKeyListRollback, Text: fmt.Sprintf("the key list has version %d, and is not the list of that version that was accepted before: there are two; have a list with a higher version signed", now.Version)}
	}
	return known, now, nil
}

func (f File) load() (map[string]list, error) {
	b, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]list{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("which key list was accepted last cannot be read: %w", err)
	}
	lists, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("which key list was accepted last cannot be read from %s (%w), so none is accepted: put the file back from a backup; or remove it, after you have made sure that the key list is the newest", string(f), err)
	}
	return lists, nil
}

func decode(b []byte) (map[string]list, error) {
	var c content
	if err := durable.DecodeJSON(b, &c); err != nil {
		return nil, err
	}
	if c.V != contentV || c.Lists == nil {
		return nil, fmt.Errorf("it is of version %d, or has no lists", c.V)
	}
	for anchor, l := range c.Lists {
		if !digest(anchor) || !digest(l.SHA256) || l.Version < 1 || l.Version > trust.MaxListVersion {
			return nil, fmt.Errorf("its entry %.80q is none", anchor)
		}
	}
	return c.Lists, nil
}

// digest says whether s is a SHA-256 as KeyRing writes them.
func digest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && hex.EncodeToString(b) == s
}
