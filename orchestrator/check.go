package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"

	"davit/schemas"
)

// Check verifies on one snapshot that every record decodes strictly and
// stands under its own key, that every index entry has its record and every
// record its entries, that what records refer to exists, that versions and their
// numbers lead to each other, that a job's counts and the totals equal its executions, that no device has two executions under way,
// and that the blobs are exactly those of the images and uploads and hash to their names. It
// reads everything there is. An error means that it could not be carried out.
func (s *Service) Check(ctx context.Context) (CheckReport, error) {
	// Uploads and deletions wait, so that blobs and records belong together.
	s.blobMu.Lock()
	defer s.blobMu.Unlock()
	c := &checker{
		sums: map[string]uint64{}, jobs: map[string]*jobSum{}, under: map[string]string{},
		expected: map[Table]int{}, tallies: map[string]int{}, numbers: map[string]uint64{},
	}
	c.report.Violations = []string{}
	if err := s.store.View(ctx, func(r Reader) error {
		c.Reader = r
		return c.all(ctx)
	}); err != nil {
		return c.report, err
	}
	return c.report, c.blobs(ctx, s.blobs, s.pinned)
}

// checker is one run of Check.
type checker struct {
	Reader
	report   CheckReport
	sums     map[string]uint64  // blobs that images and uploads refer to, and their size
	numbers  map[string]uint64  // ids of versions, by image type and version
	jobs     map[string]*jobSum // what was found of jobs
	tallies  map[string]int     // counters as the records call for them
	under    map[string]string  // the execution under way by device
	expected map[Table]int      // index entries that records call for
	audited  uint64             // the number of the audit entry met last
	seq      uint64             // the highest start number of a job
}

func (c *checker) violation(format string, args ...any) {
	c.report.Count++
	if len(c.report.Violations) < MaxViolations {
		c.report.Violations = append(c.report.Violations, fmt.Sprintf(format, args...))
	}
}

func (c *checker) all(ctx context.Context) error {
	for _, check := range []func() error{
		func() error { return records(c, c.imageType) },
		func() error { return records(c, c.deviceType) },
		func() error { return records(c, c.version) },
		func() error { return records(c, c.image) },
		func() error { return records(c, c.upload) },
		func() error { return records(c, c.device) },
		func() error { return records(c, c.group) },
		func() error { return records(c, c.claim) },
		func() error { return records(c, c.claimed) },
		func() error { return records(c, c.job) },
		func() error { return records(c, c.execution) },
		func() error { return records(c, c.history) },
		func() error { return records(c, c.progress) },
		func() error { return records(c, c.auditEntry) },
		func() error { return records(c, func(*idempotencyRecord) error { return nil }) },
		c.events, c.counted, c.indexes, c.ready, c.lists, c.offers, c.totals, c.jobSeq,
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// records checks every record of a table and its index entries.
func records[T any, P stored[T]](c *checker, check func(P) error) error {
	table := P(new(T)).table()
	var failed error
	err := c.Scan(table, nil, nil, func(k, v []byte) bool {
		c.report.Records++
		rec := P(new(T))
		if err := read(v, (*T)(rec)); err != nil {
			c.violation("record %s %q does not decode: %v", table, k, err)
			return true
		}
		if rec.id() != string(k) {
			c.violation("record %s %q says that it is %q", table, k, rec.id())
		}
		if kind := kindOf(table); kind != "" {
			if failed = c.refers(table, rec.id(), tableEventAt, string(keyOf(kind, rec.id()))); failed != nil {
				return false
			}
		}
		for _, counter := range rec.counters() {
			c.tallies[counter]++
		}
		for _, e := range rec.entries() {
			if failed = c.entry(table, rec.id(), e); failed != nil {
				return false
			}
		}
		failed = check(rec)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// entry checks one index entry that a record calls for.
func (c *checker) entry(table Table, id string, e entry) error {
	c.expected[e.table]++
	v, err := c.Get(e.table, e.key)
	switch {
	case err != nil:
		return err
	case v == nil:
		c.violation("index %s has no entry %q for record %s %q", e.table, e.key, table, id)
	case string(v) != string(e.value):
		c.violation("index %s entry %q points to %q and not to record %s %q", e.table, e.key, v, table, id)
	}
	return nil
}

// refers checks that something that a record names exists.
func (c *checker) refers(by Table, id string, to Table, what string) error {
	v, err := c.Get(to, keyOf(what))
	if err == nil && v == nil {
		c.violation("record %s %q refers to %s %q, which does not exist", by, id, to, what)
	}
	return err
}

func (c *checker) imageType(*ImageType) error { return nil }

func (c *checker) deviceType(t *DeviceType) error {
	for _, e := range t.ImageTypes {
		if err := c.refers(tableDeviceTypes, t.ID, tableImageTypes, e.ID); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) image(m *Image) error {
	c.content("image", m.ID, m.SHA256, m.Size)
	if m.Manifest != nil {
		c.content("the manifest of image", m.ID, m.Manifest.SHA256, m.Manifest.Size)
	}
	for _, dt := range m.DeviceTypes {
		if err := c.refers(tableImages, m.ID, tableDeviceTypes, dt); err != nil {
			return err
		}
	}
	// Neither may be there: a store that is older than the numbers gets them
	// at its next start.
	if id := c.numbers[versionKey(m.ImageType, m.Version)]; m.VersionID != id {
		c.violation("image %q has the version id %d, its version %q has %d", m.ID, m.VersionID, m.Version, id)
	}
	return c.refers(tableImages, m.ID, tableImageTypes, m.ImageType)
}

func (c *checker) version(v *versionRecord) error {
	if v.ID < 1 || v.ID > schemas.MaxVersionID {
		c.violation("version %q of image type %q has the id %d, allowed are 1 to %d", v.Version, v.ImageType, v.ID, uint64(schemas.MaxVersionID))
	}
	c.numbers[v.id()] = v.ID
	return nil
}

func (c *checker) upload(u *Upload) error {
	c.content("upload", u.ID, u.SHA256, u.Size)
	return nil
}

// content notes a blob that a record refers to.
func (c *checker) content(what, id, sum string, size uint64) {
	if other, ok := c.sums[sum]; ok && other != size {
		c.violation("%s %q has %d bytes, another record of the same content %d", what, id, size, other)
	}
	c.sums[sum] = size
}

func (c *checker) device(d *Device) error {
	return c.refers(tableDevices, d.ID, tableDeviceTypes, d.Type)
}

func (c *checker) group(g *Group) error {
	for _, d := range g.Devices {
		if err := c.refers(tableGroups, g.ID, tableDevices, d); err != nil {
			return err
		}
	}
	return nil
}

// claim checks that a claim has the hash of its token, and what it needs as long as it
// is not revoked.
func (c *checker) claim(m *Claim) error {
	if err := c.refers(tableClaims, m.ID, tableClaimHashes, m.ID); err != nil {
		return err
	}
	if m.Uses > 0 && m.Used > m.Uses {
		c.violation("claim %q has made %d devices and has %d uses", m.ID, m.Used, m.Uses)
	}
	if !m.RevokedAt.IsZero() {
		return nil
	}
	for _, g := range m.Groups {
		if err := c.refers(tableClaims, m.ID, tableGroups, g); err != nil {
			return err
		}
	}
	return c.refers(tableClaims, m.ID, tableDeviceTypes, m.DeviceType)
}

func (c *checker) claimed(m *claimMark) error {
	if err := c.refers(tableClaimed, m.Device, tableClaims, m.Claim); err != nil {
		return err
	}
	return c.refers(tableClaimed, m.Device, tableDevices, m.Device)
}

// auditEntry checks that the log has no gap: the numbers fall by one.
func (c *checker) auditEntry(e *AuditEntry) error {
	if c.audited != 0 && e.Seq != c.audited-1 {
		c.violation("the audit log has entry %d before entry %d: entries are missing", e.Seq, c.audited)
	}
	c.audited = e.Seq
	return nil
}

// events checks where the feed says that records changed, which is all that it
// knows of those that do not carry their revision.
func (c *checker) events() error {
	first, err := firstAudit(c)
	if err != nil {
		return err
	}
	if c.audited != 0 && c.audited != first {
		c.violation("the audit log begins with entry %d and not with entry %d", c.audited, first)
	}
	var failed error
	err = c.Scan(tableEventAt, nil, nil, func(name, at []byte) bool {
		failed = c.entry(tableEventAt, string(name), entry{indexEvents, at, name})
		return failed == nil
	})
	if failed != nil {
		err = failed
	}
	return err
}

// counted checks the counters; it runs after all records.
func (c *checker) counted() error {
	err := c.Scan(tableCounters, nil, nil, func(k, v []byte) bool {
		if n := c.tallies[string(k)]; len(v) != 8 || numberOf(v) != uint64(n) {
			c.violation("counter %q stands at %x, the records call for %d", k, v, n)
		}
		delete(c.tallies, string(k))
		return true
	})
	for _, k := range slices.Sorted(maps.Keys(c.tallies)) {
		c.violation("counter %q is missing, the records call for %d", k, c.tallies[k])
	}
	return err
}

// indexes checks that indexes hold nothing that no record calls for. Every
// entry that is called for was looked up, so a larger number means strangers.
func (c *checker) indexes() error {
	for _, table := range indexTables() {
		n := 0
		if err := c.Scan(table, nil, nil, func(_, _ []byte) bool { n++; return true }); err != nil {
			return err
		}
		c.report.Indexes += n
		if n > c.expected[table] {
			c.violation("index %s has %d entries, the records call for %d: some point to nothing", table, n, c.expected[table])
		}
	}
	return nil
}

// offers checks that every device with an execution under way is marked.
func (c *checker) offers() error {
	for _, device := range slices.Sorted(maps.Keys(c.under)) {
		v, err := c.Get(tableOffers, keyOf(device))
		if err != nil {
			return err
		}
		if v == nil {
			c.violation("device %q has execution %q under way, but no offer is noted for it", device, c.under[device])
		}
	}
	return nil
}

func (c *checker) totals() error {
	all, err := readTotals(c)
	if err != nil {
		c.violation("%v", err)
		return nil
	}
	sum := totals{}
	for _, found := range c.jobs {
		for s, n := range found.counts {
			sum[s] += uint64(n)
		}
	}
	for _, s := range schemas.States() {
		if all[s] != sum[s] {
			c.violation("the totals count %d executions %s, there are %d", all[s], s, sum[s])
		}
	}
	return nil
}

// jobSeq checks that the next job to be started gets a number of its own:
// executions are ordered, and indexed, by it.
func (c *checker) jobSeq() error {
	n, err := readNumber(c, metaJobSeq)
	switch {
	case err != nil:
		c.violation("%v", err)
	case n < c.seq:
		c.violation("the last job was started as number %d, one stands in the records with %d", n, c.seq)
	}
	return nil
}

// blobs reads every blob.
func (c *checker) blobs(ctx context.Context, b Blobs, pinned map[string]int) error {
	if err := b.List(ctx, func(sum string, size int64) bool {
		c.report.Blobs++
		c.report.BlobBytes += size
		switch want, ok := c.sums[sum]; {
		case !ok && pinned[sum] > 0:
			// An upload under way has not written its record yet.
		case !ok:
			c.violation("blob %s belongs to no image and no upload", sum)
		case uint64(size) != want:
			c.violation("blob %s has %d bytes, its image %d", sum, size, want)
		}
		return true
	}); err != nil {
		return err
	}
	for _, sum := range slices.Sorted(maps.Keys(c.sums)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		got, err := hashBlob(ctx, b, sum)
		switch {
		case err != nil:
			c.violation("blob %s cannot be read: %v", sum, err)
		case got != sum:
			c.violation("blob %s is damaged: its content hashes to %s", sum, got)
		}
	}
	return nil
}

func hashBlob(ctx context.Context, b Blobs, sum string) (string, error) {
	f, err := b.Open(ctx, sum)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(f, 0, f.Size()))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return hex.EncodeToString(h.Sum(nil)), err
}
