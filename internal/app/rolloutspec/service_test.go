package rolloutspec

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/orchestrator/fileblobs"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

// nowhere is a publisher that publishes to nobody.
type nowhere struct{}

func (nowhere) Offer(context.Context, string, schemas.Offer) error     { return nil }
func (nowhere) Withdraw(context.Context, string) error                 { return nil }
func (nowhere) Forget(context.Context, string) error                   { return nil }
func (nowhere) Ack(context.Context, string, schemas.Ack) error         { return nil }
func (nowhere) Profile(context.Context, string, schemas.Profile) error { return nil }
func (nowhere) Chunk(context.Context, string, []byte) error            { return nil }

// furnished is a service in January 2027 with what the reference file names: some
// devices, the groups, and images, whose ids it returns with it.
func furnished(t *testing.T) (s *orchestrator.Service, goal string, via []string) {
	t.Helper()
	blobs, err := fileblobs.Open(t.TempDir())
	check(t, err)
	now := func() time.Time { return time.Date(2027, 1, 15, 12, 0, 0, 0, time.UTC) }
	s, err = orchestrator.New(orchestrator.Options{Store: memstore.New(), Blobs: blobs, Publisher: nowhere{}, Logger: slog.New(slog.DiscardHandler), Now: now})
	check(t, err)
	ctx := t.Context()
	_, err = s.CreateImageType(ctx, orchestrator.NewImageType{ID: "app"})
	check(t, err)
	_, err = s.CreateDeviceType(ctx, orchestrator.NewDeviceType{ID: "pump", Dialect: orchestrator.DialectAyla, ImageTypes: []orchestrator.EnabledImageType{{ID: "app"}}})
	check(t, err)
	var list []orchestrator.NewDevice
	for i := range 500 {
		list = append(list, orchestrator.NewDevice{ID: fmt.Sprintf("pump-%d", i+1), Type: "pump"})
	}
	_, err = s.CreateDevices(ctx, list)
	check(t, err)
	for id, devices := range map[string][]string{"lab": {"pump-3", "pump-4"}, "one-mobile-cell": {"pump-5", "pump-6"}} {
		_, err = s.CreateGroup(ctx, orchestrator.NewGroup{ID: id, Devices: devices})
		check(t, err)
	}
	image := func(version, minVersion string) string {
		n := orchestrator.NewImage{ImageType: "app", DeviceTypes: []string{"pump"}, Version: version, MinVersion: minVersion, Format: "binary"}
		i, err := s.UploadImage(ctx, n, strings.NewReader("firmware "+version))
		check(t, err)
		return i.ID
	}
	return s, image("2.0", "1.5"), []string{image("1.5", "1.0"), image("1.0", "")}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestReferenceFileIsTaken: the rollout that the documentation shows makes sense to
// the service, and so is what it shows of each field.
func TestReferenceFileIsTaken(t *testing.T) {
	f, err := Load(reference)
	check(t, err)
	s, goal, via := furnished(t)
	r := f.Rollout
	r.Via = via
	for i := range r.Stop {
		if r.Stop[i].RollBack != "" {
			r.Stop[i].RollBack = via[0]
		}
	}
	n := orchestrator.NewJob{Name: "reference", Image: goal, Query: `type == "pump"`, Rollout: &r}
	p, err := s.PreviewJob(t.Context(), n)
	check(t, err)
	if len(p.Waves) != len(r.Waves) || p.Waves[0].Devices != 2 || p.Waves[1].Devices != 2 || p.Waves[2].Devices != 25 || p.Waves[3].Devices != 200 || p.Waves[4].Devices != 271 {
		t.Errorf("waves %+v", p.Waves)
	}
	j, err := s.CreateJob(t.Context(), n)
	check(t, err)
	if j.Rollout == nil || j.Rollout.Seed != "spring-2027" || len(j.Waves) != 5 {
		t.Errorf("the job is %+v", j)
	}
	first, _, err := s.WaveMembers(t.Context(), "reference", 3, orchestrator.Page{Limit: 1})
	check(t, err)
	if len(first) != 1 || first[0].Device != p.Waves[2].First[0] {
		t.Errorf("the third wave begins with %+v, and the preview said %v", first, p.Waves[2].First)
	}
}
