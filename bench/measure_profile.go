package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// measureProfile says what the service spends its processor time on while modules fetch.
func measureProfile(ctx context.Context, s *suite) (section, error) {
	modules, seconds := 1000, 10
	if s.quick {
		modules, seconds = 4, 1
	}
	image := testImage(4 << 20)
	d, err := s.offered(ctx, modules, image, "--pprof", "127.0.0.1:0")
	if err != nil {
		return section{}, err
	}
	all, err := d.connect(nil, modules, image)
	if err != nil {
		return section{}, err
	}
	const chunk = 4 << 10
	window := windowFor(s.window, chunk, modules)
	c := course{image: d.image.ID, chunk: chunk, window: window, batch: window, length: int64(window * chunk)}
	type answer struct {
		profile []byte
		err     error
	}
	taken := make(chan answer, 1)
	go func() {
		b, err := d.profile(ctx, seconds)
		taken <- answer{b, err}
	}()
	var got answer
	for over := false; !over; {
		if _, err := fetchAll(ctx, all, c); err != nil {
			return section{}, err
		}
		select {
		case got = <-taken:
			over = true
		default:
		}
	}
	if got.err != nil {
		return section{}, got.err
	}
	file := filepath.Join(s.dir, "cpu.prof")
	if err := os.WriteFile(file, got.profile, 0o600); err != nil {
		return section{}, err
	}
	top, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=10", d.binary, file).CombinedOutput()
	if err != nil {
		return section{}, fmt.Errorf("go tool pprof: %w\n%s", err, top)
	}
	return section{text: fmt.Sprintf(profileText, grouped(int64(modules)), chunk>>10, seconds) + fenced(top)}, nil
}

// profile has the service record what it does for so many seconds.
func (d *davit) profile(ctx context.Context, seconds int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+patience)
	defer cancel()
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", d.pprof, seconds)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("a profile was answered with %s: %s", resp.Status, b)
	}
	return b, err
}

// fenced is the table of pprof's output, without the lines that tell this machine's paths.
func fenced(top []byte) string {
	var b strings.Builder
	b.WriteString("\n\n```\n")
	for line := range bytes.Lines(top) {
		if !bytes.HasPrefix(line, []byte("File:")) && !bytes.HasPrefix(line, []byte("Build ID:")) && !bytes.HasPrefix(line, []byte("Time:")) {
			b.Write(line)
		}
	}
	b.WriteString("```")
	return b.String()
}

const profileText = "The ten functions in which the service itself is most of the time while %s modules fetch chunks of %d KiB, a whole window in each fetch, for %d seconds (`davit serve --pprof`, `go tool pprof -top`):"
