package orchestrator_test

import (
	"slices"
	"testing"
	"time"

	"davit/orchestrator"
	"davit/schemas"
)

func TestRolloutInSentences(t *testing.T) {
	const hour, minute = orchestrator.Duration(time.Hour), orchestrator.Duration(time.Minute)
	at := time.Date(2026, 12, 1, 22, 30, 0, 0, time.FixedZone("east", 3600))
	untried := "What fails is not tried again by itself."
	for name, c := range map[string]struct {
		rollout *orchestrator.Rollout
		want    []string
	}{
		"none":  {nil, []string{"All devices are offered the image at once."}},
		"empty": {&orchestrator.Rollout{}, []string{"All devices form one wave.", untried}},
		"good practice": {
			&orchestrator.Rollout{
				Waves: []orchestrator.Wave{
					{Name: "canary", Devices: []string{"a", "b", "c"}, Of: orchestrator.OfOnline, Soak: hour}, {Name: "wave 2", Percent: 5, Success: 90, Soak: 90 * minute},
					{Group: "field", Approve: true}, {Percent: 100},
				},
				Stop:  []orchestrator.StopRule{{Percent: 5, MinSample: 20}},
				Retry: &orchestrator.RetryPolicy{},
			},
			[]string{
				"Wave 1 (canary): the devices a, b and c; the next wave begins when all of those that were online have succeeded and that has held for 1 h.",
				"Wave 2: up to 5 % of the devices that no wave names; the next wave begins when 90 % of them have succeeded and that has held for 1 h 30 min.",
				"Wave 3: those of group field, once somebody has approved it; the next wave begins when all of them have succeeded.",
				"Wave 4: all other devices.",
				"The job is paused when 5 % of at least 20 devices that came to an end have failed.",
				"An update is tried 3 times in all, the second time after 1 min, each wait 2 times the one before, at most 1 h.",
			},
		},
		"counts": {
			&orchestrator.Rollout{Waves: []orchestrator.Wave{{Count: 1}, {Count: 20}, {Devices: []string{"a"}}, {Devices: []string{"b", "c", "d", "e", "f", "g"}}}},
			[]string{
				"Wave 1: 1 of the devices that no wave names; the next wave begins when all of them have succeeded.",
				"Wave 2: 20 of the devices that no wave names; the next wave begins when all of them have succeeded.",
				"Wave 3: the device a; the next wave begins when all of them have succeeded.", "Wave 4: 6 named devices; the next wave begins when all of them have succeeded.",
				"Devices that none of these waves takes form a last one.", untried,
			},
		},
		"one wave": {&orchestrator.Rollout{Waves: []orchestrator.Wave{{Percent: 100}}}, []string{"Wave 1: all devices.", untried}},
		"stop": {
			&orchestrator.Rollout{Stop: []orchestrator.StopRule{
				{Count: 1, Action: orchestrator.StopRecall, Causes: []schemas.Cause{schemas.CauseBoot}, RollBack: "img-1"},
				{Count: 10, Percent: 2.5, Over: orchestrator.OverWave, Action: orchestrator.StopAbort, Causes: []schemas.Cause{schemas.CauseBoot, schemas.CauseMinVersion}},
			}},
			[]string{
				"All devices form one wave.",
				"The job is canceled, and so is what is in progress, when 1 device has failed (boot); the devices that have succeeded by then are brought to img-1.",
				"The job is canceled, and what is in progress finishes, when 10 devices or 2.5 % of the devices that came to an end have failed (boot or min version) in one wave.",
				untried,
			},
		},
		"pace": {
			&orchestrator.Rollout{Pace: &orchestrator.Pace{MaxInProgress: 1, PerMinute: 500, Ramp: &orchestrator.Ramp{Start: 10, After: 50}, Groups: []orchestrator.GroupPace{{Group: "slow", MaxInProgress: 2, PerMinute: 6}, {Group: "free"}}}},
			[]string{
				"All devices form one wave.", "At most 1 device is in progress at a time.",
				"It begins with 10 devices a minute, 2 times as many after every 50 more successes, up to 500 a minute.",
				"Of group slow at most 2 in progress at a time and 6 a minute.", untried,
			},
		},
		"rate": {&orchestrator.Rollout{Pace: &orchestrator.Pace{PerMinute: 20}}, []string{"All devices form one wave.", "At most 20 devices are newly offered the image in a minute.", untried}},
		"schedule": {
			&orchestrator.Rollout{Schedule: &orchestrator.Schedule{Start: at, End: at.Add(24 * time.Hour), Windows: []orchestrator.Window{{Cron: "0 1 * * *", Duration: 4 * hour}, {Cron: "0 3 * * sat", Duration: 30 * hour, Zone: "Europe/Berlin"}}}},
			[]string{
				"All devices form one wave.", "Nothing is offered before 1 Dec 2026, 21:30 UTC.",
				"It ends at 2 Dec 2026, 21:30 UTC: devices that have not accepted by then are canceled, the others finish.",
				`A window opens at "0 1 * * *" (UTC) for 4 h.`, `A window opens at "0 3 * * sat" (Europe/Berlin) for 1 day 6 h.`,
				"Devices that are in progress when the windows close finish.", untried,
			},
		},
		"devices' zone": {
			&orchestrator.Rollout{Schedule: &orchestrator.Schedule{Windows: []orchestrator.Window{{Cron: "0 1 * * *", Duration: hour}}, DeviceZone: "tz", Recall: true}},
			[]string{
				"All devices form one wave.", `A window opens at "0 1 * * *" (the device's zone by its label tz, else UTC) for 1 h.`,
				"When the windows close, devices that have not begun to load their MCU are taken back and go on in the next window.", untried,
			},
		},
		"retry": {
			&orchestrator.Rollout{Retry: &orchestrator.RetryPolicy{Attempts: 5, Backoff: &orchestrator.Backoff{First: 30 * minute, Factor: 1.5, Max: 48 * hour}, Budget: 1, Causes: map[schemas.Cause]orchestrator.CauseRetry{
				schemas.CauseNetwork: {Attempts: 10}, schemas.CauseBoot: {Attempts: 1}}}},
			[]string{
				"All devices form one wave.",
				"An update is tried 5 times in all, the second time after 30 min, each wait 1.5 times the one before, at most 2 days.",
				"After a failure by boot it is not tried again.",
				"After a failure by network it is tried 10 times in all, the second time after 30 min, each wait 1.5 times the one before, at most 2 days.",
				"All devices together have 1 retry.",
			},
		},
		"time limits": {
			&orchestrator.Rollout{Timeouts: &orchestrator.Timeouts{Answer: 5 * minute, Boot: orchestrator.Duration(90 * time.Second), LoadRate: 300}},
			[]string{
				"All devices form one wave.", untried, "A device has 5 min to answer and 1 min 30 s to boot.",
				"Loading the MCU may take as long as 300 bytes a second need, in addition.",
			},
		},
		"soft":     {&orchestrator.Rollout{Action: orchestrator.ActionSoft, DeferLimit: 24 * hour}, []string{"All devices form one wave.", "Devices may put the update off for 1 day after the first offer.", untried}},
		"product":  {&orchestrator.Rollout{Action: orchestrator.ActionConfirm, ConfirmBy: orchestrator.ByProduct}, []string{"All devices form one wave.", "The product has to agree before a device installs the image.", untried}},
		"person":   {&orchestrator.Rollout{Action: orchestrator.ActionConfirm}, []string{"All devices form one wave.", "A person has to agree for each device before it is offered the image.", untried}},
		"download": {&orchestrator.Rollout{Action: orchestrator.ActionDownload}, []string{"All devices form one wave.", "Devices download the image and install it on command.", untried}},
		"rest": {
			&orchestrator.Rollout{Via: []string{"img-1", "img-2"}, Continuous: true, Priority: -5},
			[]string{
				"All devices form one wave.", "Devices that cannot be updated directly are led over img-1 and img-2 first, as the images' min versions allow.", untried,
				"Devices that join the target later, or report another version again, get the job too.", "It goes after other jobs on a device (priority -5).",
			},
		},
		"before others": {&orchestrator.Rollout{Priority: 5}, []string{"All devices form one wave.", untried, "It goes before other jobs on a device (priority 5)."}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.rollout.Sentences(); !slices.Equal(got, c.want) {
				t.Errorf("got\n%q\nwant\n%q", got, c.want)
			}
		})
	}
}
