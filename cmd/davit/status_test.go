package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"davit/internal/client"
	"davit/orchestrator"
	"davit/schemas"
)

// TestStatusHasRoomOnOneScreen: whatever there is to tell, 80 columns and 23 lines are enough, and what
// matters stands there.
func TestStatusHasRoomOnOneScreen(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	full := client.ServiceStatus{At: now, Checks: []client.CheckState{{Name: "broker", Since: now.Add(-time.Minute), Reason: strings.Repeat("no link ", 40)}}}
	full.System.Version, full.System.Since, full.System.Broker = "1.0.0", now.Add(-50*time.Hour), "mqtts://broker.example.com:8883"
	full.Fleet.Devices, full.Fleet.Online, full.Fleet.Quarantined = 100000, 19000, 3
	full.Fleet.ByType, full.Fleet.Jobs, full.Fleet.Executions = map[string]int{}, map[orchestrator.JobState]int{orchestrator.JobRunning: 3}, map[schemas.State]int{}
	for i := range 100 {
		full.Fleet.ByType[fmt.Sprint("type-", i)] = i
	}
	for _, s := range schemas.States() {
		full.Fleet.Executions[s] = 1000
	}
	for i := range 10 {
		full.Failures = append(full.Failures, orchestrator.Failure{At: now.Add(-time.Minute), Job: fmt.Sprint("job-", i), Device: strings.Repeat("d", 64), State: schemas.StateFailed, Cause: schemas.CauseFlash, Detail: "\x1b[2J" + strings.Repeat("é", 500)})
		full.Attention = append(full.Attention, orchestrator.Attention{Job: fmt.Sprint("job-", i), Why: orchestrator.AttentionStopped, Reason: strings.Repeat("too many failures ", 20)})
	}
	full.System.Certificates = append(full.System.Certificates, struct {
		File string    `json:"file"`
		Ends time.Time `json:"ends"`
	}{"a", now.Add(-time.Hour)})
	for name, s := range map[string]client.ServiceStatus{"everything": full, "nothing": {At: now, Ready: true}} {
		text := statusScreen(s)
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if len(lines) >= statusRows {
			t.Errorf("%s: %d lines\n%s", name, len(lines), text)
		}
		for _, line := range lines {
			if utf8.RuneCountInString(line) > statusColumns {
				t.Errorf("%s: too long: %s", name, line)
			}
		}
		if strings.Contains(text, "\x1b") {
			t.Errorf("%s: it steers the terminal: %q", name, text)
		}
	}
	disk := client.ServiceStatus{At: now, Checks: []client.CheckState{{Name: "storage", Since: now, Reason: "the disk of /var/lib/davit is full (0 bytes are free): nothing can be recorded", Remedy: "make room on the disk of the data folder"}}}
	disk.Queues.Chunks, disk.Queues.Starved = 19000, 18999
	for _, want := range []string{
		"ready:      NO: storage for 0s: the disk of /var/lib/davit is full (0 bytes are\n            free): nothing can be recorded (make room on the disk of the data\n            folder)\n",
		"wait for 19000 devices, 18999 of them without credit\n",
	} {
		if text := statusScreen(disk); !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	embedded := full
	embedded.System.Broker = embeddedBroker
	embedded.Fleet.ByType, embedded.Fleet.Connected = map[string]int{"pump": 120, "valve": 4}, map[string]int{"pump": 30, "unknown": 2, "gone": 0}
	if text := statusScreen(embedded); !strings.Contains(text, " 30 of 120 pump, 0 of 4 valve, 2 unknown\n") {
		t.Errorf("connected devices by type:\n%s", text)
	}
	text := statusScreen(full)
	for _, want := range []string{"NO: broker for 1m0s", "19000 of 100000 connected", "HAS ENDED", "! job job-0: stopped", "7 more jobs", "last failures:", "1000 downloading", "1000 canceled", "up 50h0m0s"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
