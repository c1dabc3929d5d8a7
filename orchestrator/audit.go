package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// AuditEntry is one thing that somebody did. Entries are only ever added, in
// the transaction of what they tell of.
type AuditEntry struct {
	Seq    uint64          `json:"seq" doc:"Its number; entries have no gaps"`
	Time   time.Time       `json:"time" doc:"When it was done"`
	Actor  Actor           `json:"actor" doc:"Who did it, with which role, from where"`
	Action string          `json:"action" doc:"What was done: create, update, delete, start, pause and so on"`
	Kind   string          `json:"kind" doc:"The kind of what it was done to"`
	ID     string          `json:"id" doc:"The id of what it was done to"`
	Before json.RawMessage `json:"before,omitempty" doc:"The record before; one that is very long is replaced by its length and SHA-256"`
	After  json.RawMessage `json:"after,omitempty" doc:"The record after"`
}

// AuditFilter restricts a listing of the audit log; empty fields do not.
type AuditFilter struct {
	Actor  string
	Action string
	Kind   string
	ID     string // only with Kind
	From   time.Time
	To     time.Time
}

// maxAudited is how many bytes of a record the audit log keeps.
const maxAudited = 16 << 10

func (e *AuditEntry) table() Table       { return tableAudit }
func (e *AuditEntry) id() string         { return string(revKey(^e.Seq)) }
func (e *AuditEntry) counters() []string { return nil }
func (e *AuditEntry) entries() []entry {
	key := revKey(^e.Seq)
	return []entry{
		{indexAuditByObject, append(append(keyOf(e.Kind, e.ID), 0), key...), key},
		{indexAuditByActor, append(prefixOf(e.Actor.Name), key...), key},
	}
}

// audit adds an entry to the audit log; before and after are records, or nil.
func (t *txn) audit(action, kind, id string, before, after any) error {
	seq, err := readNumber(t, metaAudit)
	if err != nil {
		return err
	}
	e := &AuditEntry{Seq: seq + 1, Time: t.now, Actor: t.actor, Action: action, Kind: kind, ID: id}
	if e.Before, err = audited(before); err != nil {
		return err
	}
	if e.After, err = audited(after); err != nil {
		return err
	}
	if err := writeNumber(t, metaAudit, e.Seq); err != nil {
		return err
	}
	return put(t, nil, e)
}

func audited(rec any) (json.RawMessage, error) {
	if rec == nil {
		return nil, nil
	}
	b, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if len(b) <= maxAudited {
		return b, nil
	}
	sum := sha256.Sum256(b)
	return json.Marshal(struct {
		Bytes  int    `json:"omitted_bytes"`
		SHA256 string `json:"sha256"`
	}{len(b), hex.EncodeToString(sum[:])})
}

// AppendAudit adds an entry on behalf of the context's actor in a transaction
// of another package's, with whose writes it is committed.
func AppendAudit(ctx context.Context, w Writer, now time.Time, action, kind, id string, before, after any) error {
	t := newTxn(ctx, w, now)
	if err := t.audit(action, kind, id, before, after); err != nil {
		return err
	}
	return t.flushRest()
}

// Audit records something that was done outside of the store's transactions,
// on behalf of the context's actor.
func (s *Service) Audit(ctx context.Context, action, kind, id string, before, after any) error {
	return s.store.Update(ctx, func(w Writer) error {
		return AppendAudit(ctx, w, s.now(), action, kind, id, before, after)
	})
}

// auditScan is how many entries one page of a listing looks at.
const auditScan = 5000

// AuditEntries lists the audit log, the newest entry first. It reads the index
// by object or by actor where the filter allows, and looks at a bounded number of
// entries: a page may be short, or empty, and still have a next one.
func (s *Service) AuditEntries(ctx context.Context, f AuditFilter, p Page) ([]AuditEntry, string, error) {
	if f.ID != "" && f.Kind == "" {
		return nil, "", invalidField("kind", "an id needs the kind that it is of")
	}
	index, prefix := tableAudit, []byte(nil)
	switch {
	case f.Kind != "" && f.ID != "":
		index, prefix = indexAuditByObject, append(keyOf(f.Kind, f.ID), 0)
	case f.Actor != "":
		index, prefix = indexAuditByActor, prefixOf(f.Actor)
	case f.Kind != "":
		index, prefix = indexAuditByObject, prefixOf(f.Kind)
	}
	after, err := hex.DecodeString(p.After)
	if err != nil {
		return nil, "", invalidField("after", "not a cursor of this listing")
	}
	var items []AuditEntry
	var next string
	err = s.store.View(ctx, func(r Reader) error {
		var err error
		items, next, err = scanAudit(r, index, prefix, after, f, p.limit())
		return err
	})
	return items, next, err
}

func scanAudit(r Reader, index Table, prefix, after []byte, f AuditFilter, limit int) ([]AuditEntry, string, error) {
	items, next := []AuditEntry{}, ""
	var failed error
	var last []byte
	looked := 0
	if len(after) == 0 {
		after = nil
	} else {
		after = append(append([]byte{}, prefix...), after...)
	}
	err := r.Scan(index, prefix, after, func(k, v []byte) bool {
		if len(items) == limit || looked == auditScan {
			next = hex.EncodeToString(last)
			return false
		}
		looked++
		last = k[len(prefix):]
		e := &AuditEntry{}
		if index == tableAudit {
			failed = decode(v, e)
		} else {
			e, failed = need[AuditEntry](r, "audit entry", string(v))
		}
		if failed != nil {
			return false
		}
		if f.matches(e) {
			items = append(items, *e)
		}
		return f.From.IsZero() || !e.Time.Before(f.From) || index == indexAuditByObject && f.ID == ""
	})
	if failed != nil {
		err = failed
	}
	return items, next, err
}

func (f *AuditFilter) matches(e *AuditEntry) bool {
	return (f.Actor == "" || f.Actor == e.Actor.Name) && (f.Action == "" || f.Action == e.Action) &&
		(f.Kind == "" || f.Kind == e.Kind) && (f.ID == "" || f.ID == e.ID) &&
		(f.From.IsZero() || !e.Time.Before(f.From)) && (f.To.IsZero() || e.Time.Before(f.To))
}
