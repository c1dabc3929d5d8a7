package orchestrator

import (
	"context"
	"fmt"
)

// one reads a record that has to be there.
func one[T any, P stored[T]](ctx context.Context, st Store, what, id string) (T, error) {
	var out T
	err := st.View(ctx, func(r Reader) error {
		p, err := need[T, P](r, what, id)
		if err == nil {
			out = *p
		}
		return err
	})
	return out, err
}

// list reads a page of a table in the order of its ids.
func list[T any, P stored[T]](ctx context.Context, st Store, p Page) ([]T, string, error) {
	var items []T
	var next string
	err := st.View(ctx, func(r Reader) (err error) {
		items, next, err = listRecords[T, P](r, p)
		return err
	})
	return items, next, err
}

// pageBytes is how many bytes of records a page of listRecords holds, but for its
// last one: groups may have many members. The page is short then and has a next one.
const pageBytes = 1 << 20

func listRecords[T any, P stored[T]](r Reader, p Page) ([]T, string, error) {
	items, next, size := []T{}, "", 0
	var after []byte
	if p.After != "" {
		after = keyOf(p.After)
	}
	var failed error
	table := P(new(T)).table()
	err := r.Scan(table, nil, after, func(k, v []byte) bool {
		if len(items) == p.limit() || size >= pageBytes {
			next = P(&items[len(items)-1]).id()
			return false
		}
		size += len(v)
		var item T
		if failed = read(v, &item); failed != nil {
			failed = fmt.Errorf("record %s %q does not decode: %w", table, k, failed)
			return false
		}
		items = append(items, item)
		return true
	})
	if failed != nil {
		err = failed
	}
	return items, next, err
}

// listIndex reads a page of the records that an index holds for id. The cursor
// is the rest of the last index key.
func listIndex[T any, P stored[T]](r Reader, index Table, id string, p Page) ([]T, string, error) {
	items, next := []T{}, ""
	prefix := prefixOf(id)
	var after []byte
	if p.After != "" {
		after = append(prefixOf(id), p.After...)
	}
	var last string
	var failed error
	err := r.Scan(index, prefix, after, func(k, v []byte) bool {
		if len(items) == p.limit() {
			next = last
			return false
		}
		rec, err := need[T, P](r, "record", string(v))
		if err != nil {
			failed = fmt.Errorf("index %s: %w", index, err)
			return false
		}
		items = append(items, *rec)
		last = string(k[len(prefix):])
		return true
	})
	if failed != nil {
		err = failed
	}
	return items, next, err
}

// vacant refuses an id that is taken.
func vacant[T any, P stored[T]](r Reader, what, id string) error {
	p, err := find[T, P](r, id)
	if err == nil && p != nil {
		err = fmt.Errorf("%s %q %w", what, id, ErrExists)
	}
	return err
}

// unused refuses a deletion while an index holds something that uses the id.
func unused(r Reader, what, id, user string, index Table) error {
	by, err := anyUnder(r, index, id)
	if err == nil && by != "" {
		err = fmt.Errorf("%s %q: %w: it is in use by %s %q", what, id, ErrConflict, user, by)
	}
	return err
}

func set[T any](field *T, v *T) {
	if v != nil {
		*field = *v
	}
}

func nameOr(name, id string) string {
	if name == "" {
		return id
	}
	return name
}
