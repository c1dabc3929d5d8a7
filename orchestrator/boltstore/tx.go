package boltstore

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"

	"davit/orchestrator"
)

// tx is a view or the writer's transaction.
type tx struct {
	btx    *bbolt.Tx
	tables map[orchestrator.Table]*place
	wrote  bool
	room   []byte // for values that are written
	// recording is whether undo notes what was written.
	recording bool
	undo      []write
	// changed, if it is not nil, notes which keys are written.
	changed map[changedKey]bool
}

// place is a table's bucket with a cursor, which saves looking for the former and
// allocating the latter at each access.
type place struct {
	*bbolt.Bucket
	cursor *bbolt.Cursor
}

// value is the value of a key; it belongs to bbolt.
func (p *place) value(key []byte) []byte {
	if k, v := p.cursor.Seek(key); k != nil && bytes.Equal(k, key) {
		return v
	}
	return nil
}

// write is how a key was before it was written.
type write struct {
	table      orchestrator.Table
	key, value []byte // value is nil if there was none
}

// one runs one function. Its panic goes on in the caller's goroutine.
// One that came of a damaged page is the error that damagedBy makes of it.
func (t *tx) one(r *request, damagedBy func(any) error) {
	defer func() {
		p := recover()
		if err := damagedBy(p); err != nil {
			r.err = err
			return
		}
		r.panicked = p
	}()
	r.err = r.fn(t)
}

func (t *tx) takeBack() error {
	for i := len(t.undo) - 1; i >= 0; i-- {
		w := t.undo[i]
		b := t.table(w.table)
		err := error(nil)
		if w.value == nil {
			err = b.Delete(w.key)
		} else {
			err = b.Put(w.key, w.value)
		}
		if err != nil {
			return fmt.Errorf("take back a failed update of table %s: %w", w.table, err)
		}
	}
	return nil
}

// table returns a table's place, nil if nothing was ever written to it.
func (t *tx) table(table orchestrator.Table) *place {
	if p := t.tables[table]; p != nil {
		return p
	}
	if b := t.btx.Bucket([]byte(table)); b != nil {
		return t.found(table, b)
	}
	return nil
}

func (t *tx) found(table orchestrator.Table, b *bbolt.Bucket) *place {
	if t.tables == nil {
		t.tables = map[orchestrator.Table]*place{}
	}
	b.FillPercent = fill
	p := &place{b, b.Cursor()}
	t.tables[table] = p
	return p
}

// owned copies what belongs to bbolt; an empty value is not nil.
func owned(b []byte) []byte { return append([]byte{}, b...) }

// keptRoom is how much is made at a time for the values that are written.
const keptRoom = 16 << 10

// kept copies a value for as long as the transaction lasts.
func (t *tx) kept(value []byte) []byte {
	if len(value) == 0 || len(value) > keptRoom/4 {
		return owned(value)
	}
	if len(value) > cap(t.room)-len(t.room) {
		t.room = make([]byte, 0, keptRoom)
	}
	from := len(t.room)
	t.room = append(t.room, value...)
	return t.room[from:len(t.room):len(t.room)]
}

func (t *tx) Get(table orchestrator.Table, key []byte) ([]byte, error) {
	b := t.table(table)
	if b == nil {
		return nil, nil
	}
	v := b.value(key)
	if v == nil {
		return nil, nil
	}
	return owned(v), nil
}

func (t *tx) Scan(table orchestrator.Table, prefix, after []byte, fn func(key, value []byte) bool) error {
	b := t.table(table)
	if b == nil {
		return nil
	}
	c := b.Cursor()
	from, beyond := prefix, false
	if after != nil && bytes.Compare(after, prefix) >= 0 {
		from, beyond = after, true
	}
	k, v := c.Seek(from)
	if beyond && k != nil && bytes.Equal(k, after) {
		k, v = c.Next()
	}
	for ; k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if !fn(owned(k), owned(v)) {
			break
		}
	}
	return nil
}

func (t *tx) Put(table orchestrator.Table, key, value []byte) error {
	b := t.table(table)
	if b == nil {
		made, err := t.btx.CreateBucket([]byte(table))
		if err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
		b = t.found(table, made)
	}
	t.remember(b, table, key)
	// bbolt copies the key, but keeps the value that it is given until the commit.
	if err := b.Put(key, t.kept(value)); err != nil {
		return fmt.Errorf("table %s: %w", table, err)
	}
	return nil
}

func (t *tx) Delete(table orchestrator.Table, key []byte) error {
	b := t.table(table)
	if b == nil || b.value(key) == nil {
		return nil
	}
	t.remember(b, table, key)
	if err := b.cursor.Delete(); err != nil { // where value has left it
		return fmt.Errorf("table %s: %w", table, err)
	}
	return nil
}

// remember notes how a key is, before it is written. It does not move the cursor
// off the key.
func (t *tx) remember(b *place, table orchestrator.Table, key []byte) {
	t.wrote = true
	if t.changed != nil {
		t.changed[changedKey{table, string(key)}] = true
	}
	if !t.recording {
		return
	}
	w := write{table: table, key: owned(key)}
	if v := b.value(key); v != nil {
		w.value = owned(v)
	}
	t.undo = append(t.undo, w)
}
