package gateway

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"davit/orchestrator"
	"davit/schemas"
)

// ServiceStatus is how the service stands, in one answer of bounded size and cost.
type ServiceStatus struct {
	At      time.Time    `json:"at" doc:"When the status was taken"`
	Ready   bool         `json:"ready" doc:"Nothing keeps it from serving devices; what /readyz says"`
	Healthy bool         `json:"healthy" doc:"It is ready, no certificate has ended, and there is room on the disk"`
	Checks  []CheckState `json:"checks" nullable:"false" doc:"What has to be so for it to be ready"`
	System  SystemStatus `json:"system" doc:"The program and its machine"`
	Fleet   FleetStatus  `json:"fleet" doc:"Devices, jobs and executions"`
	orchestrator.Activity
}

// FleetStatus is what of the fleet stands in a status.
type FleetStatus struct {
	Devices     int                           `json:"devices" doc:"All devices"`
	Online      int                           `json:"online" doc:"Those that are connected"`
	Quarantined int                           `json:"quarantined" doc:"Those that are in quarantine"`
	ByType      map[string]int                `json:"by_type" doc:"Devices by device type"`
	Connected   map[string]int                `json:"connected_by_type,omitempty" doc:"Devices whose connection to the embedded broker stands, or their bridge's, by device type: at most 100 types, the others are other, those of devices that nobody knows unknown. Not there with an external broker, nor before the first has connected"`
	Jobs        map[orchestrator.JobState]int `json:"jobs" doc:"Jobs by state"`
	Executions  map[schemas.State]int         `json:"executions" doc:"Executions of all jobs by state"`
}

// SystemStatus is the program and its machine.
type SystemStatus struct {
	Version      string              `json:"version" doc:"The version of the program"`
	Since        time.Time           `json:"since" doc:"When it started"`
	Broker       string              `json:"broker" doc:"embedded, or the URL of the external one"`
	Store        int64               `json:"store_bytes" doc:"Size of the records' file"`
	DiskFree     int64               `json:"disk_free_bytes" doc:"What the disk of the data folder has left; -1 if that is not known"`
	DiskAll      int64               `json:"disk_bytes" doc:"What that disk has; -1 if that is not known"`
	Certificates []CertificateStatus `json:"certificates" nullable:"false" doc:"The service's own certificates"`
}

// CertificateStatus is a certificate of the service.
type CertificateStatus struct {
	File string    `json:"file" doc:"The file that it was read from"`
	Ends time.Time `json:"ends" doc:"When it ends"`
}

// leastDisk is how much a disk needs to have left for the service to be healthy, in bytes.
const leastDisk = 100 << 20

func (a *API) statusRoutes(api huma.API) {
	route(a, api, "GET /v1/status", "get status",
		func(ctx context.Context, _ *nothing) (*bodyOf[ServiceStatus], error) { return one(a.status(ctx)) },
		describe("How the service stands: readiness, fleet, jobs that need somebody, last failures, pace, queues, store and disk. It costs the same whatever the size of the fleet."))
}

func (a *API) status(ctx context.Context) (ServiceStatus, error) {
	s := ServiceStatus{At: time.Now(), Ready: true, Checks: a.ready.Look(ctx)}
	for _, c := range s.Checks {
		s.Ready = s.Ready && c.OK
	}
	s.System.Certificates, s.System.DiskFree, s.System.DiskAll = []CertificateStatus{}, -1, -1
	if a.options.System != nil {
		s.System = a.options.System()
	}
	f, err := a.options.Service.Fleet(ctx)
	if err != nil {
		return s, err
	}
	s.Fleet = FleetStatus{Devices: f.Devices, Online: f.Online, Quarantined: f.Quarantined, ByType: f.ByType, Jobs: f.Jobs, Executions: f.Executions}
	if a.options.Connected != nil {
		s.Fleet.Connected = a.options.Connected()
	}
	if s.Activity, err = a.options.Service.Activity(ctx); err != nil {
		return s, err
	}
	s.Healthy = s.Ready && (s.System.DiskFree < 0 || s.System.DiskFree >= leastDisk)
	for _, c := range s.System.Certificates {
		s.Healthy = s.Healthy && c.Ends.After(s.At)
	}
	return s, nil
}
