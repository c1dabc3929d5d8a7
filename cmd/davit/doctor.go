package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/app/doctor"
)

const doctorLong = `Look for what would keep davit %[1]s from running well on this machine, given the same flags,
environment and file: settings, files and their modes, the data folder, %[2]s,
certificates, keys, the broker, clock, disk and limits of the system.

A line for each thing: OK, WARN (it runs, and something is to be done) or FAIL (it does not
run, or not as it is meant to), with what to do. The exit code is 1 if something fails.
Nothing is changed, no secret is shown, and a %[1]s that runs here is not disturbed. Run it
as the user that davit %[1]s runs as: root passes every permission. docs/doctor.md has examples.`

func (p *program) doctorCommand() *cobra.Command {
	return p.parent("doctor", "Look for what would keep serve or bridge from running well on this machine", p.doctorServe(), p.doctorBridge())
}

func (p *program) doctorServe() *cobra.Command {
	var s serveSettings
	cmd := p.command("serve [flags of davit serve]", "Examine what davit serve would find on this machine", noArgs, func(cmd *cobra.Command, _ []string) error {
		set, warnings, err := s.load(cmd, p.environ)
		if err != nil && set == nil {
			return err
		}
		if err == nil {
			err = s.inOrder(set)
		}
		if missing := s.opts.Missing(); err == nil && missing != nil {
			return s.located(set, missing)
		}
		return p.tellFindings(doctor.Serve(cmd.Context(), doctor.This(), s.opts, err), warnings)
	})
	cmd.Long = fmt.Sprintf(doctorLong, forServe, "ports")
	s.addTo(cmd)
	return cmd
}

func (p *program) doctorBridge() *cobra.Command {
	var s bridgeSettings
	cmd := p.command("bridge [flags of davit bridge]", "Examine what davit bridge would find on this machine", noArgs, func(cmd *cobra.Command, _ []string) error {
		set, warnings, err := s.load(cmd, p.environ)
		if err != nil {
			return err
		}
		o, err := s.resolve(set)
		if err == nil {
			err = located(set, "bridge", s.opts.Config, o.Consistent())
		}
		if missing := o.Missing(); err == nil && missing != nil {
			return located(set, "bridge", s.opts.Config, missing)
		}
		return p.tellFindings(doctor.Bridge(cmd.Context(), doctor.This(), o, p.variable(envServer), err), warnings)
	})
	cmd.Long = fmt.Sprintf(doctorLong, forBridge, "serial ports") + `
With DAVIT_SERVER, the URL of the service, the clock is compared with the service's.`
	s.addTo(cmd)
	return cmd
}

// variable is the value of an environment variable.
func (p *program) variable(name string) string {
	for _, v := range p.environ {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// tellFindings prints what was found; an error if something fails.
func (p *program) tellFindings(found []doctor.Finding, warnings []string) error {
	for _, w := range warnings {
		found = append(found, doctor.Finding{Check: "environment", Level: doctor.Warn, What: w, Do: "correct its name, or leave it out"})
	}
	counts := map[doctor.Level]int{}
	for _, f := range found {
		counts[f.Level]++
		if p.json {
			if err := p.printJSON(f); err != nil {
				return err
			}
		}
	}
	if !p.json {
		if _, err := io.WriteString(p.out, doctor.Text(found)); err != nil {
			return err
		}
	}
	if counts[doctor.Fail] > 0 {
		return errReported
	}
	return nil
}
