package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// The exit codes of every command.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// program is one execution of the command line.
type program struct {
	streams
	json    bool     // --json, --output json
	environ []string // the environment, as os.Environ has it
	started bool     // a command's own code has begun: errors are no longer about the command line
}

// usageError is about the command line itself: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// cannotError is about what the command line names: exit code 2, and the help has
// nothing to say about it.
type cannotError struct{ error }

func (e cannotError) Unwrap() error { return e.error }

// errReported ends a command with exit code 1 when what went wrong is in its
// output already.
var errReported = errors.New("reported")

// exitCode prints err, if there is one, and says what the process exits with.
func (p *program) exitCode(err error) int {
	var usage usageError
	var cannot cannotError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		p.printRest(err, errReported)
		return exitFailed
	case errors.As(err, &cannot):
		fmt.Fprintf(p.err, "davit: %v\n", err)
		return exitUsage
	case errors.As(err, &usage) || !p.started:
		fmt.Fprintf(p.err, "davit: %v\nTry 'davit help' or a command with --help.\n", err)
		return exitUsage
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(p.err, "davit: interrupted")
		p.printRest(err, context.Canceled)
		return exitFailed
	}
	fmt.Fprintf(p.err, "davit: %s\n", explained(err))
	return exitFailed
}

// printRest prints what was joined to an error that is told already, such as a clean-up that has failed as well.
func (p *program) printRest(err, told error) {
	if rest := without(err, told); rest != nil {
		fmt.Fprintf(p.err, "davit: %s\n", explained(rest))
	}
}

// without is what is left of joined errors without those that are target, nil for nothing.
func without(err, target error) error {
	if !errors.Is(err, target) {
		return err
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var rest []error
	for _, part := range joined.Unwrap() {
		rest = append(rest, without(part, target))
	}
	return errors.Join(rest...)
}

// root builds the command tree.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "davit",
		Short: "Lower firmware from the network onto the host MCU behind a connectivity module",
		Long: `davit updates the firmware of host MCUs behind connectivity modules: an image is
uploaded to the service, offered to devices over MQTT, fetched in chunks and
loaded over a serial line; success is the version that the booted MCU reports.

Start with: davit demo`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noSuchCommand,
		RunE:          p.wrap(needsCommand),
	}
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.PersistentFlags().BoolVar(&p.json, "json", false, "short for --output json")
	root.PersistentFlags().VarP(outputFlag{&p.json}, "output", "o", "table for people, or json: one object per line")
	completeWith(root, "output", outputTable, outputJSON)
	p.under(root, groupRun, "Programs:", p.serveCommand(), p.bridgeCommand(), p.mcuCommand(), p.simCommand(), p.sniffCommand(), p.replayCommand(), p.demoCommand(), p.caCommand(), p.configCommand(), p.checkCommand(), p.healthCommand(), p.restoreCommand(), p.doctorCommand())
	p.under(root, groupFirmware, "Firmware:", p.imageTypeCommand(), p.deviceTypeCommand(), p.imageCommand(), p.keyCommand(), p.keyListCommand())
	p.under(root, groupFleet, "Fleet:", p.statusCommand(), p.fleetCommand(), p.deviceCommand(), p.groupCommand(), p.claimCommand(), p.eventsCommand())
	p.under(root, groupRollouts, "Rollouts:", p.jobCommand())
	p.under(root, groupPeople, "People:", p.userCommand(), p.tokenCommand(), p.whoamiCommand(), p.auditCommand(), p.logCommand(), p.storageCommand(), p.backupCommand(), p.compactCommand())
	root.AddCommand(append(p.manCommands(), p.versionCommand())...)
	complete(root)
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil { // cobra's own would show its help for a shell that it does not know, and say that all is well
		c.Args, c.RunE, c.SuggestionsMinimumDistance = noSuchCommand, p.wrap(needsCommand), 2
	}
	return root
}

// The headings under which help lists the commands.
const (
	groupRun      = "run"
	groupFirmware = "firmware"
	groupFleet    = "fleet"
	groupRollouts = "rollouts"
	groupPeople   = "people"
)

// under adds commands under a heading of the help.
func (p *program) under(root *cobra.Command, id, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: id, Title: title})
	for _, c := range commands {
		c.GroupID = id
		root.AddCommand(c)
	}
}

// completeWith lets the shell complete a flag with fixed values.
func completeWith(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag does not exist: a mistake in this package
	}
}

// command builds a command that does something. run's errors are failures
// (exit code 1) unless they are usage errors.
func (p *program) command(use, short string, args cobra.PositionalArgs, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args, RunE: p.wrap(run), DisableFlagsInUseLine: true}
}

// parent builds a command that only holds others.
func (p *program) parent(use, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: noSuchCommand, RunE: p.wrap(needsCommand), SuggestionsMinimumDistance: 2}
	c.AddCommand(children...)
	return c
}

func (p *program) wrap(run func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		p.started = true
		return run(cmd, args)
	}
}

// noSuchCommand is the argument rule of a command that only holds others.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("%s has no command %q", cmd.CommandPath(), args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += fmt.Sprintf("; did you mean %q?", near[0])
	}
	return usagef("%s", text)
}

func needsCommand(cmd *cobra.Command, _ []string) error {
	_ = cmd.Help()
	return usagef("%s needs a command", cmd.CommandPath())
}

// oneArg is the argument rule of a command that takes exactly one, which is
// called name in messages.
func oneArg(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("%s takes one argument, %s; it was given %d", cmd.CommandPath(), name, len(args))
		}
		return nil
	}
}

// noArgs is the argument rule of a command that takes none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no argument; it was given %q", cmd.CommandPath(), args[0])
	}
	return nil
}
