// Package fleetfile reads the profiles of a simulated fleet as people write them, in a
// YAML file (docs/fleet.yaml). It owns what is said about mistakes in it. It starts no
// goroutine, keeps no state and opens nothing but the file.
package fleetfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"davit/internal/app/yamlfile"
	"davit/internal/fleet"
	"davit/internal/rehearsal"
	"davit/orchestrator"
	"davit/schemas"
)

// file is what stands in a file. What is left out is as DefaultProfile has it.
type file struct {
	Profiles []profile `json:"profiles" maxItems:"64"`
}

type profile struct {
	Name          string                 `json:"name" maxLength:"64"`
	Share         *float64               `json:"share" minimum:"0.001" maximum:"1000000"`
	MQTT311       float64                `json:"mqtt311" minimum:"0" maximum:"100"`
	Bandwidth     string                 `json:"bandwidth"`
	Latency       orchestrator.Duration  `json:"latency"`
	Loss          float64                `json:"loss" minimum:"0" maximum:"90"`
	Chunk         string                 `json:"chunk"`
	Window        *int                   `json:"window" minimum:"1" maximum:"64"`
	Adaptive      bool                   `json:"adaptive"`
	Streams       bool                   `json:"streams"`
	RebootEvery   orchestrator.Duration  `json:"reboot_every"`
	Answer        *orchestrator.Duration `json:"answer"`
	Line          *int                   `json:"line" minimum:"300"`
	Boot          *orchestrator.Duration `json:"boot"`
	Fail          map[schemas.Cause]part `json:"fail"`
	FallBack      float64                `json:"fall_back" minimum:"0" maximum:"100"`
	FallBackAfter *orchestrator.Duration `json:"fall_back_after"`
	NeverRead     float64                `json:"never_read" minimum:"0" maximum:"100"`
}

// part is a percentage.
type part = float64

const example = "docs/fleet.yaml is an example"

// Load reads the file called name. The error is a *yamlfile.Error.
func Load(name string) ([]fleet.Profile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, unreadable(name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, yamlfile.MaxSize+1)) // Parse says that it is too long
	if err != nil {
		return nil, unreadable(name, err)
	}
	return Parse(name, b)
}

func unreadable(name string, err error) error {
	return &yamlfile.Error{Name: name, Problems: []yamlfile.Problem{{Text: fmt.Sprintf("the profiles cannot be read: %v", yamlfile.Bare(err))}}}
}

// Parse reads the content of the file called name. The error is a *yamlfile.Error.
func Parse(name string, content []byte) ([]fleet.Profile, error) {
	var causes []string
	for _, c := range fleet.Causes() {
		causes = append(causes, string(c))
	}
	d := yamlfile.Decoder{
		Reader: yamlfile.Reader{What: "the profiles of a simulated fleet", Example: example},
		Names:  map[reflect.Type][]string{reflect.TypeFor[schemas.Cause](): causes},
	}
	var f file
	if root := d.Root(content); root != nil {
		d.Decode(root, &f, "the file has to begin with profiles:; "+example)
	}
	if err := d.Err(name); err != nil {
		return nil, err
	}
	var problems []yamlfile.Problem
	wrong := func(pointer, field, format string, args ...any) {
		at := d.Places[pointer]
		problems = append(problems, yamlfile.Problem{Line: at.Line, Column: at.Column, Field: field, Text: fmt.Sprintf(format, args...)})
	}
	var all []fleet.Profile
	for i := range f.Profiles {
		field := fmt.Sprintf("profiles[%d]", i)
		pointer := fmt.Sprintf("profiles/%d", i)
		p, member, err := f.Profiles[i].profile(i)
		var one *fleet.Mistake
		switch {
		case errors.As(err, &one):
			name := strings.ReplaceAll(one.Field, "-", "_")
			wrong(pointer+"/"+name, field+"."+name, "%s", one.Text)
		case err != nil && member != "":
			wrong(pointer+"/"+member, field+"."+member, ": %v", err)
		case err != nil:
			wrong(pointer, field, ": %v", err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		wrong("profiles", "profiles", "has no entry; %s", example)
	}
	if len(problems) > 0 {
		return nil, &yamlfile.Error{Name: name, Problems: problems}
	}
	return all, nil
}

// profile is what a file says of the profile number i. member is the one that is wrong, if
// it is one alone.
func (f *profile) profile(i int) (p fleet.Profile, member string, err error) {
	p = fleet.DefaultProfile()
	if p.Name = f.Name; p.Name == "" {
		p.Name = fmt.Sprintf("profile %d", i+1)
	}
	given(&p.Share, f.Share)
	given(&p.Window, f.Window)
	given(&p.Line, f.Line)
	duration(&p.Answer, f.Answer)
	duration(&p.Boot, f.Boot)
	duration(&p.FallBackAfter, f.FallBackAfter)
	const percent = 100
	p.V311, p.Loss, p.FallBack, p.NeverRead = f.MQTT311/percent, f.Loss/percent, f.FallBack/percent, f.NeverRead/percent
	p.Adaptive, p.Streams = f.Adaptive, f.Streams
	p.Latency, p.RebootEvery = time.Duration(f.Latency), time.Duration(f.RebootEvery)
	if f.Bandwidth != "" {
		if p.Bandwidth, err = rehearsal.ParseRate(f.Bandwidth); err != nil {
			return p, "bandwidth", err
		}
	}
	if f.Chunk != "" {
		size, err := rehearsal.ParseSize(f.Chunk)
		if err != nil {
			return p, "chunk", err
		}
		p.Chunk = int(size)
	}
	for _, cause := range fleet.Causes() {
		if v, ok := f.Fail[cause]; ok {
			p.Faults = append(p.Faults, fleet.Fault{Cause: cause, Part: v / percent})
		}
	}
	return p, "", p.Validate()
}

func given[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

func duration(to *time.Duration, from *orchestrator.Duration) {
	if from != nil {
		*to = time.Duration(*from)
	}
}
