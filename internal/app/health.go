package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"davit/gateway"
)

// healthTimeout is how long a service may take to say that it is ready.
const healthTimeout = 3 * time.Second

// Health asks the service at url whether it is ready; an error says what it
// answered, or that nobody did.
func Health(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("no service answers at %s (start one with: davit serve --data DIR): %w", url, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var said gateway.Readiness
	if json.Unmarshal(body, &said) != nil || len(said.Details) == 0 {
		return fmt.Errorf("the service at %s is not ready: %s %.512s", url, resp.Status, strings.TrimSpace(string(body)))
	}
	return fmt.Errorf("the service at %s is not ready: %s", url, failures(said.Details))
}

// failures are the checks that fail, in words.
func failures(states []gateway.CheckState) string {
	var all []string
	for _, s := range states {
		if s.OK {
			continue
		}
		text := fmt.Sprintf("%s, since %s: %s", s.Name, s.Since.Local().Format(time.DateTime), s.Reason)
		if s.Remedy != "" {
			text += " (" + s.Remedy + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}
