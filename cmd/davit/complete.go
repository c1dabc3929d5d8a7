package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"davit/internal/client"
	"davit/orchestrator"
)

// completionPatience is how long somebody who has pressed the tab key is kept waiting for the service.
const completionPatience = time.Second

// maxCompletions is how many names are asked for; more than that nobody reads.
const maxCompletions = 100

// names asks the service for the names of one kind of record that begin with what has been typed, with a word about each.
type names func(ctx context.Context, c *client.Client, typed string) ([]cobra.Completion, error)

// listing makes names of a listing.
func listing[T any](list func(ctx context.Context, c *client.Client, typed string, p orchestrator.Page) ([]T, string, error), name, about func(T) string) names {
	return func(ctx context.Context, c *client.Client, typed string) ([]cobra.Completion, error) {
		items, _, err := list(ctx, c, typed, orchestrator.Page{Limit: maxCompletions})
		var all []cobra.Completion
		for _, item := range items {
			if strings.HasPrefix(name(item), typed) {
				all = append(all, cobra.CompletionWithDesc(name(item), cell(about(item))))
			}
		}
		return all, err
	}
}

// recordNames are the names that the service knows, by the command that is about such records.
func recordNames() map[string]names {
	type page = orchestrator.Page
	return map[string]names{
		"image-type": listing(func(ctx context.Context, c *client.Client, _ string, p page) ([]orchestrator.ImageType, string, error) {
			return c.ImageTypes(ctx, p)
		},
			func(t orchestrator.ImageType) string { return t.ID }, func(t orchestrator.ImageType) string { return t.Name }),
		"device-type": listing(func(ctx context.Context, c *client.Client, _ string, p page) ([]orchestrator.DeviceType, string, error) {
			return c.DeviceTypes(ctx, p)
		},
			func(t orchestrator.DeviceType) string { return t.ID }, func(t orchestrator.DeviceType) string { return t.Name }),
		"device": listing(func(ctx context.Context, c *client.Client, typed string, p page) ([]client.DeviceView, string, error) {
			return c.Devices(ctx, orchestrator.DeviceFilter{Text: typed}, p)
		}, func(d client.DeviceView) string { return d.ID }, func(d client.DeviceView) string { return d.Type }),
		"group": listing(func(ctx context.Context, c *client.Client, _ string, p page) ([]orchestrator.Group, string, error) {
			return c.Groups(ctx, p)
		},
			func(g orchestrator.Group) string { return g.ID }, func(g orchestrator.Group) string { return g.Query }),
		"image": listing(func(ctx context.Context, c *client.Client, _ string, p page) ([]orchestrator.Image, string, error) {
			return c.Images(ctx, orchestrator.ImageFilter{}, p)
		}, func(i orchestrator.Image) string { return i.ID }, func(i orchestrator.Image) string { return i.ImageType + " " + i.Version }),
		"job": listing(func(ctx context.Context, c *client.Client, typed string, p page) ([]orchestrator.Job, string, error) {
			return c.Jobs(ctx, orchestrator.JobFilter{Text: typed}, p)
		}, func(j orchestrator.Job) string { return j.Name }, func(j orchestrator.Job) string { return string(j.State) }),
		"bridge": listing(func(ctx context.Context, c *client.Client, _ string, p page) ([]client.Bridge, string, error) {
			return c.Bridges(ctx, p)
		},
			func(b client.Bridge) string { return b.ID }, func(b client.Bridge) string { return count(len(b.Devices), "device") }),
		"claim": listing(func(ctx context.Context, c *client.Client, _ string, p page) ([]client.Claim, string, error) {
			return c.Claims(ctx, p)
		},
			func(c client.Claim) string { return c.ID }, func(c client.Claim) string { return c.DeviceType }),
		"user": listing(func(ctx context.Context, c *client.Client, _ string, p page) ([]client.User, string, error) {
			return c.Users(ctx, p)
		},
			func(u client.User) string { return u.Name }, func(u client.User) string { return u.DisplayName }),
		"token": listing(func(ctx context.Context, c *client.Client, _ string, p page) ([]client.Token, string, error) {
			return c.Tokens(ctx, "", p)
		},
			func(t client.Token) string { return t.ID }, func(t client.Token) string { return t.Name }),
	}
}

// recordFlags are the flags whose values are such names.
func recordFlags() map[string]string {
	return map[string]string{
		"image-type": "image-type", "device-type": "device-type", "device": "device", "add-device": "device", "remove-device": "device",
		"group": "group", "image": "image", "via": "image", "roll-back": "image", "job": "job", "user": "user",
	}
}

// isNew says whether a command's first argument is the name of something that is not there yet, or no name of
// a record of its kind.
func isNew(verb string) bool {
	return slices.Contains([]string{"create", "add", "import", "push", "preview", "execution"}, verb)
}

// complete lets shells complete the arguments and flags of all commands: names that the service knows, values
// of which there are some, and files.
func complete(root *cobra.Command) {
	kinds := recordNames()
	for _, cmd := range leaves(root) {
		if cmd.ValidArgsFunction == nil && !takesArgument(cmd) {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		if cmd.Flags().Lookup("token-file") != nil && cmd.Flags().Lookup("server") != nil {
			if ask, ok := kinds[cmd.Parent().Name()]; ok && takesArgument(cmd) && !isNew(cmd.Name()) {
				cmd.ValidArgsFunction = nameArguments(ask.completion(completionPatience), cmd.Name() == "rotate")
			}
			for flag, kind := range recordFlags() {
				completeFlag(cmd, flag, kinds[kind].completion(completionPatience))
			}
			if cmd.CommandPath() == "davit device add" || cmd.CommandPath() == "davit device list" {
				completeFlag(cmd, "type", kinds["device-type"].completion(completionPatience))
			}
		}
		completeFiles(cmd)
	}
}

func leaves(cmd *cobra.Command) []*cobra.Command {
	if !cmd.HasSubCommands() {
		return []*cobra.Command{cmd}
	}
	var all []*cobra.Command
	for _, c := range cmd.Commands() {
		all = append(all, leaves(c)...)
	}
	return all
}

// takesArgument says whether a command has an argument that is no flag: the second word of how it is used.
func takesArgument(cmd *cobra.Command) bool {
	_, rest, _ := strings.Cut(cmd.Use, " ")
	return rest != "" && !strings.HasPrefix(rest, "-") && !strings.HasPrefix(rest, "[-") && !strings.HasPrefix(rest, "[flags")
}

// completeFlag lets the shell complete a flag, if the command has it and does not know better.
func completeFlag(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if cmd.Flags().Lookup(flag) == nil {
		return
	}
	if _, there := cmd.GetFlagCompletionFunc(flag); !there {
		must(cmd.RegisterFlagCompletionFunc(flag, f))
	}
}

// completeFiles lets the shell complete flags with values of which there are some, and such with names of files by their
// endings.
func completeFiles(cmd *cobra.Command) {
	for flag, values := range map[string][]string{"log-level": logLevels(), "dialect": orchestrator.Dialects(), "parity": {"odd", "even", "none"}} {
		completeFlag(cmd, flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	endings := map[string][]string{
		"rollout": {"yaml", "yml", "json"}, "profiles": {"yaml", "yml", "json"}, "manifest": {"manifest"}, "signature": {"minisig"},
		"public-key": {"pub"}, "root-key": {"pub"}, "root": {"pub"}, "ca": {"pem", "crt", "cer"}, "tls-cert": {"pem", "crt", "cer"}, "tls-key": {"pem", "key"},
	}
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Annotations[cobra.BashCompFilenameExt] != nil || f.Annotations[cobra.BashCompSubdirsInDir] != nil:
		case f.Name == "data":
			must(cmd.MarkFlagDirname(f.Name))
		case endings[f.Name] != nil && f.Value.Type() != "bool":
			must(cmd.MarkFlagFilename(f.Name, endings[f.Name]...))
		}
	})
}

// nameArguments completes the first argument, or with all set every one.
func nameArguments(f cobra.CompletionFunc, all bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 && !all {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		found, directive := f(cmd, args, typed)
		return slices.DeleteFunc(found, func(c cobra.Completion) bool {
			name, _, _ := strings.Cut(c, "\t")
			return slices.Contains(args, name)
		}), directive
	}
}

// completion asks the service that the command's flags and the environment name, for no longer than patience. Whatever
// goes wrong, there is nothing to complete and nothing to say.
func (n names) completion(patience time.Duration) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var flags clientFlags
		for name, to := range map[string]*string{"server": &flags.server, "data": &flags.data, "token-file": &flags.tokenFile} {
			*to, _ = cmd.Flags().GetString(name) // empty where there is no such flag
		}
		c, err := flags.open()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer c.Close()
		parent := cmd.Context()
		if parent == nil {
			parent = context.Background()
		}
		ctx, cancel := context.WithTimeout(parent, patience)
		defer cancel()
		found, _ := n(ctx, c, typed)
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}
