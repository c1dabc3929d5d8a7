package app

import (
	"fmt"
	"strconv"
	"strings"

	"davit/orchestrator"
	"davit/schemas"
)

// EnabledTypeForm is how an image type is written that a device type takes.
const EnabledTypeForm = "ID[,property=VERSION_PROPERTY][,number=NUMBER][,limit=BYTES]"

// ParseEnabledType reads an image type as a device type takes it, as it is
// written on the command line: EnabledTypeForm.
func ParseEnabledType(s string) (orchestrator.EnabledImageType, error) {
	id, options, _ := strings.Cut(s, ",")
	t := orchestrator.EnabledImageType{ID: id}
	fail := func(format string, args ...any) (orchestrator.EnabledImageType, error) {
		return orchestrator.EnabledImageType{}, fmt.Errorf("image type %q: "+format+"; the form is "+EnabledTypeForm, append([]any{s}, args...)...)
	}
	if err := schemas.ValidateID(id); err != nil {
		return fail("%w", err)
	}
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "":
		case "property":
			if value == "" {
				return fail("the property is empty")
			}
			t.VersionProperty = value
		case "number":
			n, err := strconv.Atoi(value)
			if err != nil || n <= 0 {
				return fail("number %q is not the number of an image type in the afero dialect", value)
			}
			t.NumericType = n
		case "limit":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil || n == 0 {
				return fail("limit %q is not a number of bytes from 1 to %d", value, uint64(schemas.MaxImageSize))
			}
			t.SizeLimit = n
		default:
			return fail("unknown option %q", key)
		}
	}
	return t, nil
}
