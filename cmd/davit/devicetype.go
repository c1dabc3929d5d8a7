package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/client"
	"davit/orchestrator"
)

func (p *program) deviceTypeCommand() *cobra.Command {
	type T = orchestrator.DeviceType
	return p.parent("device-type", "Classes of product: their protocol, image types and limits",
		p.deviceTypeCreate(),
		listCommand(p, "list", "List the device types", noArgs, plain((*client.Client).DeviceTypes),
			column[T]{"ID", func(t T) string { return t.ID }},
			column[T]{"NAME", func(t T) string { return t.Name }},
			column[T]{"DIALECT", func(t T) string { return t.Dialect }},
			column[T]{"IMAGE TYPES", enabledTypes},
			column[T]{"DESCRIPTION", func(t T) string { return t.Description }}),
		p.apiCommand("show ID", "Show a device type", oneArg("its id"), func(cmd *cobra.Command, c *client.Client, args []string) error {
			t, err := c.DeviceType(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.show(t, func(w io.Writer) { deviceTypeFields(w, t) })
		}),
		p.deviceTypeChange(),
		p.removeCommand("a device type that nothing uses", (*client.Client).DeleteDeviceType),
	)
}

func enabledTypes(t orchestrator.DeviceType) string {
	ids := make([]string, len(t.ImageTypes))
	for i, e := range t.ImageTypes {
		ids[i] = e.ID
	}
	return strings.Join(ids, ", ")
}

func deviceTypeFields(w io.Writer, t orchestrator.DeviceType) {
	all := []string{"id", t.ID, "name", t.Name, "description", t.Description, "dialect", t.Dialect, "attribute size", attributeSize(t)}
	for _, e := range t.ImageTypes {
		text := e.ID
		if e.NumericType != 0 {
			text += fmt.Sprintf(", number %d, version in attribute %d", e.NumericType, e.Attribute())
		}
		if e.VersionProperty != "" {
			text += ", version in " + e.VersionProperty
		}
		if e.SizeLimit != 0 {
			text += ", at most " + size(e.SizeLimit)
		}
		all = append(all, "image type", text)
	}
	if t.RequireSignature {
		all = append(all, "signatures", "required")
	}
	fields(w, append(all, "hello timeout", duration(t.HelloTimeout), "answer timeout", duration(t.AnswerTimeout), "verdict timeout", duration(t.VerdictTimeout),
		"boot timeout", duration(t.BootTimeout), "version timeout", duration(t.VersionTimeout), "revision", revision(t.Revision), "created", when(t.CreatedAt))...)
}

// attributeSize is the size of the attribute that carries an image, which only
// one dialect has.
func attributeSize(t orchestrator.DeviceType) string {
	switch {
	case t.Dialect != orchestrator.DialectAfero:
		return ""
	case t.AttributeSize == 0:
		return fmt.Sprintf("%d bytes (default)", orchestrator.DefaultAttributeSize)
	}
	return fmt.Sprintf("%d bytes", t.AttributeSize)
}

// deviceTypeFlags are the flags in which create and change agree.
type deviceTypeFlags struct {
	name, description, dialect            string
	types                                 []string
	attributeSize                         int
	hello, answer, verdict, boot, version time.Duration
	requireSignature                      bool
}

func (f *deviceTypeFlags) addTo(cmd *cobra.Command, dialect string) {
	fs := cmd.Flags()
	fs.StringVar(&f.name, "name", "", "name for people (default: the id)")
	fs.StringVar(&f.description, "description", "", "what it is")
	fs.StringVar(&f.dialect, "dialect", dialect, "protocol of the host MCU: ayla or afero")
	fs.IntVar(&f.attributeSize, "attribute-size", 0, "bytes of the attribute that carries an image in the afero dialect, as the MCU's profile has it: 253, 510 or 2046 (default: 253)")
	fs.StringArrayVar(&f.types, "image-type", nil, "image type that the devices take: "+app.EnabledTypeForm+"; repeatable")
	fs.BoolVar(&f.requireSignature, "require-signature", false, "let the devices have signed images only, also by jobs that ignore validation")
	fs.DurationVar(&f.hello, "hello-timeout", 0, "how long a connected device may stay without a hello before it is shown as silent (default: 30m)")
	fs.DurationVar(&f.answer, "answer-timeout", 0, "how long the host MCU may leave offers unanswered (default: the bridge's)")
	fs.DurationVar(&f.verdict, "verdict-timeout", 0, "how long to wait for a verdict after the last piece (default: the bridge's)")
	fs.DurationVar(&f.boot, "boot-timeout", 0, "how long the host MCU may take to boot (default: the bridge's)")
	fs.DurationVar(&f.version, "version-timeout", 0, "how long it may then take to report its version (default: the bridge's)")
}

func (f *deviceTypeFlags) enabled() ([]orchestrator.EnabledImageType, error) {
	var list []orchestrator.EnabledImageType
	for _, s := range f.types {
		t, err := app.ParseEnabledType(s)
		if err != nil {
			return nil, usageError{err}
		}
		list = append(list, t)
	}
	return list, nil
}

func (p *program) deviceTypeCreate() *cobra.Command {
	var f deviceTypeFlags
	cmd := p.createCommand("create ID --image-type TYPE", "Create a device type", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			enabled, err := f.enabled()
			if err != nil {
				return err
			}
			if len(enabled) == 0 {
				return usagef("device-type create: name at least one --image-type that the devices take")
			}
			t, err := c.CreateDeviceType(cmd.Context(), orchestrator.NewDeviceType{
				ID: args[0], Name: f.name, Description: f.description, Dialect: f.dialect, AttributeSize: f.attributeSize, ImageTypes: enabled,
				HelloTimeout: orchestrator.Duration(f.hello), AnswerTimeout: orchestrator.Duration(f.answer), VerdictTimeout: orchestrator.Duration(f.verdict),
				BootTimeout: orchestrator.Duration(f.boot), VersionTimeout: orchestrator.Duration(f.version), RequireSignature: f.requireSignature,
			})
			if err != nil {
				return err
			}
			return p.done(t, "Device type %s created; it takes: %s.", t.ID, enabledTypes(t))
		})
	f.addTo(cmd, "ayla")
	return cmd
}

func (p *program) deviceTypeChange() *cobra.Command {
	var f deviceTypeFlags
	var disable []string
	cmd := p.editCommand("change ID [flags]", "Change a device type", oneArg("its id"),
		func(cmd *cobra.Command, c *client.Client, args []string, e *edit) error {
			patch := orchestrator.DeviceTypePatch{
				Name: given(cmd, "name", &f.name), Description: given(cmd, "description", &f.description), Dialect: given(cmd, "dialect", &f.dialect),
				AttributeSize: given(cmd, "attribute-size", &f.attributeSize), RequireSignature: given(cmd, "require-signature", &f.requireSignature),
				HelloTimeout: givenTime(cmd, "hello-timeout", f.hello), AnswerTimeout: givenTime(cmd, "answer-timeout", f.answer),
				VerdictTimeout: givenTime(cmd, "verdict-timeout", f.verdict), BootTimeout: givenTime(cmd, "boot-timeout", f.boot), VersionTimeout: givenTime(cmd, "version-timeout", f.version),
			}
			enabled, err := f.enabled()
			if err != nil {
				return err
			}
			if len(enabled)+len(disable) == 0 {
				if err := somethingIn(cmd, patch); err != nil {
					return err
				}
			}
			t, err := c.DeviceType(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if len(enabled)+len(disable) > 0 {
				list, err := mergeTypes(t, enabled, disable)
				if err != nil {
					return err
				}
				patch.ImageTypes = &list
			}
			patch.Precondition = e.since(t.Revision)
			if t, err = c.UpdateDeviceType(cmd.Context(), t.ID, patch); err != nil {
				return err
			}
			return p.done(t, "Device type %s changed; it takes: %s.", t.ID, enabledTypes(t))
		})
	f.addTo(cmd, "")
	cmd.Flags().StringArrayVar(&disable, "disable-image-type", nil, "image type that the devices no longer take; repeatable")
	cmd.Flags().Lookup("name").Usage = "name for people"
	cmd.Flags().Lookup("image-type").Usage = "image type that the devices take from now on, or take in another way: " + app.EnabledTypeForm + "; repeatable"
	cmd.Long = "Change what the flags name and leave the rest as it is. A timeout or an attribute size of 0 stands for the default again."
	return cmd
}

func givenTime(cmd *cobra.Command, flag string, v time.Duration) *orchestrator.Duration {
	d := orchestrator.Duration(v)
	return given(cmd, flag, &d)
}

// mergeTypes enables and disables image types of a device type.
func mergeTypes(t orchestrator.DeviceType, enable []orchestrator.EnabledImageType, disable []string) ([]orchestrator.EnabledImageType, error) {
	list := slices.Clone(t.ImageTypes)
	at := func(id string) int {
		return slices.IndexFunc(list, func(e orchestrator.EnabledImageType) bool { return e.ID == id })
	}
	for _, id := range disable {
		i := at(id)
		if i < 0 {
			return nil, usagef("device type %s does not take image type %q; it takes: %s", t.ID, id, enabledTypes(t))
		}
		list = slices.Delete(list, i, i+1)
	}
	for _, e := range enable {
		if i := at(e.ID); i >= 0 {
			list[i] = e
		} else {
			list = append(list, e)
		}
	}
	return list, nil
}
