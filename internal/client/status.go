package client

import (
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

// ServiceStatus is how a service stands.
type ServiceStatus struct {
	At      time.Time    `json:"at"`
	Ready   bool         `json:"ready"`
	Healthy bool         `json:"healthy"`
	Checks  []CheckState `json:"checks"`
	System  struct {
		Version      string    `json:"version"`
		Since        time.Time `json:"since"`
		Broker       string    `json:"broker"` // embedded, or the URL of the external one
		Store        int64     `json:"store_bytes"`
		DiskFree     int64     `json:"disk_free_bytes"` // -1 if that is not known
		DiskAll      int64     `json:"disk_bytes"`      // -1 if that is not known
		Certificates []struct {
			File string    `json:"file"`
			Ends time.Time `json:"ends"`
		} `json:"certificates"`
	} `json:"system"`
	Fleet struct {
		Devices     int                           `json:"devices"`
		Online      int                           `json:"online"`
		Quarantined int                           `json:"quarantined"`
		ByType      map[string]int                `json:"by_type"`
		Connected   map[string]int                `json:"connected_by_type,omitempty"` // not there with an external broker
		Jobs        map[orchestrator.JobState]int `json:"jobs"`
		Executions  map[schemas.State]int         `json:"executions"`
	} `json:"fleet"`
	orchestrator.Activity
}

// CheckState is a condition for being ready and how it stands.
type CheckState struct {
	Name   string    `json:"name"`
	OK     bool      `json:"ok"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
	Remedy string    `json:"remedy,omitempty"`
	Detail string    `json:"detail,omitempty"`
}
