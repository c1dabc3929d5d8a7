package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/app/bridgefile"
	"davit/internal/app/settings"
	"davit/internal/app/yamlfile"
)

// The programs that have a configuration file.
const (
	forServe  = "serve"
	forBridge = "bridge"
)

func (p *program) configCommand() *cobra.Command {
	return p.parent("config", "Configuration of serve and bridge: check a file, show what is in force",
		p.configCheck(), p.parent("print", "Show the settings that are in force, each with where its value comes from", p.configPrintServe(), p.configPrintBridge()))
}

// checked is what config check prints.
type checked struct {
	File     string `json:"file"`
	For      string `json:"for"`
	Settings int    `json:"settings"`
	// Needed is what has to come from elsewhere.
	Needed string `json:"needed,omitempty"`
}

func (p *program) configCheck() *cobra.Command {
	var kind string
	cmd := p.command("check FILE [--for serve|bridge]", "Check a configuration file of serve or bridge; touches nothing else", oneArg("the file"), func(_ *cobra.Command, args []string) error {
		result := checked{File: args[0], For: kind}
		var err error
		if kind == "" {
			if result.For, err = kindOf(args[0]); err != nil {
				return err
			}
		}
		var needed error
		switch result.For {
		case forServe:
			result.Settings, needed, err = checkServeFile(args[0])
		case forBridge:
			result.Settings, needed, err = checkBridgeFile(args[0])
		default:
			return usagef("config check: --for is %q; it is %s or %s", kind, forServe, forBridge)
		}
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%s is good for davit %s: %s.", args[0], result.For, count(result.Settings, "setting"))
		if needed != nil {
			result.Needed = needed.Error()
			text += "\nNeeded beside it: " + result.Needed + "."
		}
		return p.done(result, "%s", text)
	})
	cmd.Long = `Check a configuration file of davit serve or davit bridge: every key and value, and what
does not go together. Each mistake is told with its line, its field and what to do, and the
exit code is 1. Nothing is opened but the file; what flags and environment say is not
looked at (davit config print does that).

Which of the two programs the file is for follows from its keys unless --for says it.`
	cmd.Flags().StringVar(&kind, "for", "", "which program the file is for: serve or bridge (default: by its keys)")
	completeWith(cmd, "for", forServe, forBridge)
	cmd.ValidArgsFunction = fileArgument("yaml", "yml", "json")
	return cmd
}

// kindOf says which program a file is for: the one that knows more of its keys.
func kindOf(name string) (string, error) {
	content, err := yamlfile.ReadFile(name)
	if err != nil {
		return "", err
	}
	keys, err := settings.Keys(name, content)
	if err != nil {
		return "", err
	}
	serve, bridge := serveNames(), bridgeNames()
	lead := 0
	for _, key := range keys {
		if _, ok := serve[key]; ok {
			lead++
		}
		if _, ok := bridge[key]; ok {
			lead--
		}
	}
	switch {
	case lead > 0:
		return forServe, nil
	case lead < 0:
		return forBridge, nil
	}
	return "", usagef("config check: by its keys %s may be a file of davit serve or of davit bridge; say which with --for", name)
}

// checkServeFile returns how many settings a file of davit serve has, and what has to come from elsewhere.
func checkServeFile(name string) (n int, needed, err error) {
	s := serveSettings{config: name}
	cmd := &cobra.Command{}
	s.addTo(cmd)
	set, _, err := s.load(cmd, []string{settings.Variable("config") + "=" + name})
	if err == nil {
		err = s.inOrder(set)
	}
	return settingsIn(set), s.opts.Missing(), err
}

// inOrder is what is wrong with the settings that are there, with where they were given.
func (s *serveSettings) inOrder(set *settings.Set) error { return s.located(set, s.consistent()) }

// consistent is what is wrong with the settings that are there.
func (s *serveSettings) consistent() error {
	return errors.Join(s.logs.options.Validate(), s.opts.Consistent())
}

// checkBridgeFile does the same with a file of davit bridge.
func checkBridgeFile(name string) (n int, needed, err error) {
	var s bridgeSettings
	cmd := &cobra.Command{}
	s.addTo(cmd)
	set, _, err := s.load(cmd, []string{settings.Variable("config") + "=" + name})
	if err != nil {
		return 0, nil, err
	}
	o, err := s.resolve(set)
	if err == nil {
		err = located(set, "bridge", name, o.Consistent())
	}
	return settingsIn(set), o.Missing(), err
}

// resolve reads the file, if there is one, and tells the set what it says.
func (s *bridgeSettings) resolve(set *settings.Set) (app.BridgeOptions, error) {
	o, err := s.opts.WithFile()
	if err != nil {
		return o, err
	}
	for name, v := range o.FileValues() {
		if err := set.Apply(name, o.Config, v); err != nil {
			return o, fmt.Errorf("%s: %s %w", o.Config, name, err)
		}
	}
	return o, nil
}

// settingsIn is how many settings have another value than their default.
func settingsIn(set *settings.Set) int {
	n := 0
	if set == nil {
		return 0
	}
	for _, name := range set.Names() {
		if set.Source(name).Kind != settings.Default {
			n++
		}
	}
	return n
}

const configPrintLong = `Show the settings with which davit %[1]s would run, given the same flags, environment and
file: every setting with its value and where that comes from, as YAML that davit %[1]s
--config takes. Names of files are absolute in it. No file but that of --config is
read, so no secret is shown. What does not go together is told after it, with exit code 1.`

func (p *program) configPrintServe() *cobra.Command {
	var s serveSettings
	cmd := p.command("serve [flags of davit serve]", "Show the settings of davit serve that are in force", noArgs, func(cmd *cobra.Command, _ []string) error {
		set, warnings, err := s.load(cmd, p.environ)
		if err != nil {
			return err
		}
		if err := p.printSettings(set, set.Effective(), warnings); err != nil {
			return err
		}
		return s.inOrder(set)
	})
	cmd.Long = fmt.Sprintf(configPrintLong, forServe)
	s.addTo(cmd)
	return cmd
}

func (p *program) configPrintBridge() *cobra.Command {
	var s bridgeSettings
	cmd := p.command("bridge [flags of davit bridge]", "Show the settings of davit bridge that are in force", noArgs, func(cmd *cobra.Command, _ []string) error {
		set, warnings, err := s.load(cmd, p.environ)
		if err != nil {
			return err
		}
		o, err := s.resolve(set)
		if err != nil {
			return err
		}
		all := set.Effective()
		for i, e := range all {
			if e.Name == bridgeKeys()["port"] && len(o.Ports) > 0 {
				all[i].Texts, all[i].Block, all[i].None = bridgefile.PortSpecs(o.Ports), bridgefile.PortLines(o.Ports), false
			}
		}
		if err := p.printSettings(set, all, warnings); err != nil {
			return err
		}
		return located(set, "bridge", s.opts.Config, o.Consistent())
	})
	cmd.Long = fmt.Sprintf(configPrintLong, forBridge)
	s.addTo(cmd)
	return cmd
}

// printedSetting is a setting as config print has it in JSON.
type printedSetting struct {
	Name   string `json:"name"`
	Value  any    `json:"value"` // text, a list of texts, or null for none
	Source string `json:"source"`
}

// printSettings prints settings, and the warnings to standard error.
func (p *program) printSettings(set *settings.Set, all []settings.Effective, warnings []string) error {
	for _, w := range warnings {
		fmt.Fprintf(p.err, "davit: %s\n", w)
	}
	if !p.json {
		fmt.Fprintf(p.out, "# Settings of %s, each with where its value comes from.\n", set.Command)
		return settings.WriteYAML(p.out, all)
	}
	for _, e := range all {
		if err := p.printJSON(printedSetting{e.Name, e.Value(), e.Source.String()}); err != nil {
			return err
		}
	}
	return nil
}

// fileArgument completes the first argument with names of files.
func fileArgument(extensions ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		if len(extensions) == 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return extensions, cobra.ShellCompDirectiveFilterFileExt
	}
}
