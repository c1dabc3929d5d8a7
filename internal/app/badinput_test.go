package app

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"davit/internal/client"
	"davit/internal/durable"
	"davit/internal/logtest"
	"davit/orchestrator"
	"davit/orchestrator/storetest"
	"davit/schemas"
)

// The tests of this file hold each line of what bad input gets against the
// whole stack: embedded broker, sessions, orchestrator, store and HTTP API. Two
// services on one data folder are TestSecondServerOnAFolderSaysWhoHoldsIt.

// metric reads one series of the service; 0 if it is not there (yet).
func metric(t *testing.T, s *Server, name string) float64 {
	t.Helper()
	return series(t, s.Addresses().HTTP, name)
}

// series reads one series of the service at an address; 0 if it is not there (yet).
func series(t *testing.T, addr, name string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// badMessage is something that a device should not send: the series that
// counts it, and the reason code of the broker's answer.
type badMessage struct {
	name    string
	topic   string
	retain  bool
	payload string
	counted string
	code    byte
}

const (
	gatewayRefused = `davit_gateway_mqtt_refused_total{kind="%s",reason="%s"}`
	brokerRefused  = `davit_broker_acl_refusals_total{action="publish",reason="%s"}`
	fetchRefused   = `davit_fetches_refused_total{reason="%s"}`
)

// badMessages are about device d1, whose execution under way is x with the image m.
func badMessages(x orchestrator.Execution) []badMessage {
	var all []badMessage
	to := func(k schemas.Kind, name, payload, reason string) {
		all = append(all, badMessage{name, topicOf("d1", k), false, payload, fmt.Sprintf(gatewayRefused, k, reason), 0})
	}
	atBroker := func(name, topic string, retain bool, payload, reason string, code byte) {
		all = append(all, badMessage{name, topic, retain, payload, fmt.Sprintf(brokerRefused, reason), code})
	}
	good := fmt.Sprintf(`{"v":1,"execution":%q,"attempt":1,"seq":9,"state":"failed","cause":"flash"}`, x.ID)
	status := func(from, becomes string) string { return strings.Replace(good, from, becomes, 1) }
	to(schemas.KindStatus, "truncated", good[:40], "not_json")
	to(schemas.KindStatus, "empty", "", "not_json")
	to(schemas.KindStatus, "not UTF-8", status("flash", "\xff\xfe"), "not_utf8")
	to(schemas.KindStatus, "unknown field", status(`"v":1`, `"v":1,"mood":"bad"`), "unknown_field")
	to(schemas.KindStatus, "another version", status(`"v":1`, `"v":2`), "version")
	to(schemas.KindStatus, "an unknown state", status("failed", "exploded"), "invalid")
	to(schemas.KindStatus, "a state of the service", status(`"failed","cause":"flash"`, `"queued"`), "invalid")
	to(schemas.KindStatus, "a sequence number over the limit", status(`"seq":9`, `"seq":18446744073709551616`), "invalid")
	to(schemas.KindStatus, "control characters", status(`"cause"`, `"detail":"a\u001b[31m\nb","cause"`), "invalid")
	to(schemas.KindHello, "versions without end", `{"v":1,"host_versions":{"`+strings.Repeat(`x":"1","x`, 17)+`":"1"}}`, "invalid")
	atBroker("oversized", topicOf("d1", schemas.KindStatus), false, good+strings.Repeat(" ", 9000), "size", 0x97)
	atBroker("oversized presence", topicOf("d1", schemas.KindPresence), true, saysOnline+strings.Repeat(" ", 2000), "size", 0x97)
	atBroker("another's device", topicOf("d3", schemas.KindStatus), false, good, "device", 0x87)
	atBroker("an offer to itself", topicOf("d1", schemas.KindOffer), true, "{}", "direction", 0x87)
	atBroker("an ack to itself", topicOf("d1", schemas.KindAck), false, "{}", "direction", 0x87)
	atBroker("a retained status", topicOf("d1", schemas.KindStatus), true, good, "retain", 0x87)
	atBroker("another topic", "davit/v1/d1/status/x", false, good, "topic", 0x87)
	atBroker("the broker's own topic", "$SYS/broker", false, good, "topic", 0x87)
	atBroker("a shared topic", "$share/davit/davit/v1/d1/status", false, good, "topic", 0x87)

	fetch := func(image string, chunk int, ranges string) string {
		return fmt.Sprintf(`{"v":1,"image":%q,"tag":1,"chunk":%d,"ranges":[%s]}`, image, chunk, ranges)
	}
	asks := func(name, payload, reason string) { to(schemas.KindFetch, "fetch: "+name, payload, reason) }
	asks("overlapping ranges", fetch(x.Image, 4096, `{"offset":0,"length":4096},{"offset":4095,"length":10}`), "invalid")
	asks("descending ranges", fetch(x.Image, 4096, `{"offset":4096,"length":1},{"offset":0,"length":10}`), "invalid")
	asks("more than the window", fetch(x.Image, 64, `{"offset":0,"length":1048576}`), "invalid")
	asks("an end that overflows", fetch(x.Image, 4096, `{"offset":18446744073709551615,"length":2}`), "invalid")
	asks("a negative offset", fetch(x.Image, 4096, `{"offset":-1,"length":2}`), "invalid")
	asks("65 ranges", fetch(x.Image, 4096, manyRanges(65)), "invalid")
	atBroker("fetch: 10,000 ranges", topicOf("d1", schemas.KindFetch), false, fetch(x.Image, 4096, strings.Repeat(`{"offset":0,"length":1},`, 9_999)+`{"offset":0,"length":1}`), "size", 0x97)
	beyond := fetch(x.Image, 4096, fmt.Sprintf(`{"offset":%d,"length":1}`, x.BytesTotal))
	all = append(all,
		badMessage{"fetch: beyond the image", topicOf("d1", schemas.KindFetch), false, beyond, fmt.Sprintf(fetchRefused, "beyond_image"), 0},
		badMessage{"fetch: an image not offered", topicOf("d1", schemas.KindFetch), false, fetch("img-other", 4096, `{"offset":0,"length":1}`), fmt.Sprintf(fetchRefused, "no_execution"), 0})
	return all
}

func manyRanges(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"offset":%d,"length":1}`, 2*i)
	}
	return strings.Join(list, ",")
}

// acked sends a status and waits until it is recorded.
func acked(m *module, device string, st schemas.Status) {
	m.t.Helper()
	m.say(device, &st)
	for {
		p := m.hear()
		var a schemas.Ack
		if p.Topic != topicOf(device, schemas.KindAck) {
			continue
		}
		if err := schemas.Decode(p.Payload, &a); err != nil {
			m.t.Fatal(err)
		}
		if a.Execution == st.Execution && a.Seq == st.Seq {
			return
		}
	}
}

func TestBadInputFromDevices(t *testing.T) {
	dir := t.TempDir()
	lines := &logtest.Buffer{}
	o := testOptions(t, dir)
	o.Log = slog.New(slog.NewTextHandler(lines, nil))
	s, stop := startServer(t, o)
	c := clientFor(t, dir, s.Addresses().HTTP)
	rack := dialModule(t, s.Addresses().MQTT, "rack", fleetRecords(t, c, []string{"d1", "d2"}), "d1")
	if _, err := c.CreateDevice(t.Context(), orchestrator.NewDevice{ID: "d3", Type: testDeviceType}); err != nil {
		t.Fatal(err)
	}
	rack.subscribe(topicOf("d1", schemas.KindAck), topicOf("d1", schemas.KindChunk))
	_, executions, err := c.Job(t.Context(), "job")
	if err != nil {
		t.Fatal(err)
	}
	x := executions[0]
	st := schemas.Status{V: 1, Execution: x.ID, Attempt: 1, Seq: 5, State: schemas.StateDownloading, BytesDone: 4096}
	acked(rack, "d1", st)
	recorded, err := c.Execution(t.Context(), x.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range badMessages(x) {
		t.Run(bad.name, func(t *testing.T) {
			before := metric(t, s, bad.counted)
			if code := rack.publish(bad.topic, bad.retain, []byte(bad.payload)); code != bad.code && (code >= 0x80 || bad.code != 0) {
				t.Errorf("reason code %#x, want %#x", code, bad.code)
			}
			until(t, bad.counted, func() bool { return metric(t, s, bad.counted) == before+1 })
			if now, err := c.Execution(t.Context(), x.ID); err != nil || !reflect.DeepEqual(now, recorded) {
				t.Errorf("the execution became %+v (%v), want %+v", now, err, recorded)
			}
		})
	}
	// The connection has outlived it all, and nothing came of the fetches.
	st.Seq, st.State = 6, schemas.StateDownloaded
	rack.say("d1", &st)
	if p := rack.hear(); p.Topic != topicOf("d1", schemas.KindAck) {
		t.Errorf("heard %s before the ack", p.Topic)
	}
	if n := len(lines.Lines("message refused", "device=d1")); n != 1 {
		t.Errorf("%d lines about d1's payloads within a minute, want 1", n)
	}
	if n := len(lines.Lines("MQTT publish refused", "principal=rack")); n != 1 {
		t.Errorf("%d lines about rack's topics within a minute, want 1", n)
	}
	stop()
	if r, err := Check(t.Context(), dir); err != nil || !r.OK() {
		t.Errorf("check: %+v, %v", r, err)
	}
}

// problemWith says whether err is a problem with the status whose sentence has
// the words.
func problemWith(err error, status int, words ...string) bool {
	ok := client.IsStatus(err, status)
	for _, w := range words {
		ok = ok && strings.Contains(err.Error(), w)
	}
	return ok
}

func TestBadInputInUploads(t *testing.T) {
	dir := t.TempDir()
	s, stop := startServer(t, testOptions(t, dir))
	c := clientFor(t, dir, s.Addresses().HTTP)
	fleetRecords(t, c, []string{"d1"})
	small := orchestrator.NewDeviceType{
		ID: "small", Dialect: "ayla", ImageTypes: []orchestrator.EnabledImageType{{ID: testImageType, SizeLimit: 1000}},
	}
	if _, err := c.CreateDeviceType(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	upload := func(n int) error {
		_, err := c.UploadImage(t.Context(), orchestrator.NewImage{
			ImageType: testImageType, DeviceTypes: []string{"small"}, Version: "1", Format: "binary",
		}, bytes.NewReader(make([]byte, n)))
		return err
	}
	if err := upload(0); !problemWith(err, http.StatusUnprocessableEntity, "0 bytes", "1000") {
		t.Errorf("an empty image: %v", err)
	}
	if err := upload(1001); !problemWith(err, http.StatusRequestEntityTooLarge, "1000 bytes", `"small"`) {
		t.Errorf("an image over the limit: %v", err)
	}
	if err := upload(1000); err != nil {
		t.Errorf("an image at the limit: %v", err)
	}
	stop()
	if r, err := Check(t.Context(), dir); err != nil || !r.OK() || r.Blobs != 2 {
		t.Errorf("check: %+v, %v; want 2 blobs", r, err)
	}
}

// TestBadInputOnAFullDisk fills a small disk with an upload, in the middle of an
// execution.
func TestBadInputOnAFullDisk(t *testing.T) {
	storetest.FullDisk(t, "8m", func(t *testing.T, disk string) {
		dir := filepath.Join(disk, "data")
		o := testOptions(t, dir)
		o.MinFree = 1 // so that the disk itself says it
		s, stop := startServer(t, o)
		c := clientFor(t, dir, s.Addresses().HTTP)
		rack := dialModule(t, s.Addresses().MQTT, "rack", fleetRecords(t, c, []string{"d1"}), "d1")
		rack.subscribe(topicOf("d1", schemas.KindAck))
		_, executions, err := c.Job(t.Context(), "job")
		if err != nil {
			t.Fatal(err)
		}
		st := schemas.Status{V: 1, Execution: executions[0].ID, Attempt: 1, Seq: 1, State: schemas.StateAccepted}
		acked(rack, "d1", st)
		upload := func(n int) error {
			_, err := c.UploadImage(t.Context(), orchestrator.NewImage{
				ImageType: testImageType, DeviceTypes: []string{testDeviceType}, Version: "3",
			}, bytes.NewReader(bytes.Repeat([]byte{7}, n)))
			return err
		}
		for range 2 {
			if err := upload(32 << 20); !problemWith(err, http.StatusInsufficientStorage) {
				t.Errorf("an upload that fills the disk: %v", err)
			}
			if left, err := filepath.Glob(filepath.Join(dir, blobsName, durable.TempPrefix+"*")); err != nil || len(left) > 0 {
				t.Errorf("half-written files: %v, %v", left, err)
			}
			st.Seq, st.State, st.BytesDone = st.Seq+1, schemas.StateDownloading, 4096
			acked(rack, "d1", st)
		}
		if err := upload(1 << 20); err != nil {
			t.Errorf("an upload that fits: %v", err)
		}
		fillDisk(t, disk)
		if err := upload(2 << 20); !problemWith(err, http.StatusInsufficientStorage) {
			t.Errorf("an upload to a disk that is full: %v", err)
		}
		stop()
		if err := os.Remove(filepath.Join(disk, "filling")); err != nil {
			t.Fatal(err)
		}
		if r, err := Check(t.Context(), dir); err != nil || !r.OK() || r.Blobs != 2 {
			t.Errorf("check: %+v, %v; want 2 blobs", r, err)
		}
	})
}

// fillDisk writes until nothing more fits.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filling"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4<<10))
	}
	if !durable.IsNoSpace(err) {
		t.Fatal(err)
	}
}
