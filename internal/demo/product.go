package demo

import (
	"fmt"
	"slices"
	"strings"

	"davit/internal/sim"
	"davit/orchestrator"
	"davit/schemas/afpro"
)

// Mixed is a fleet with products of every dialect.
const Mixed = "mixed"

// Dialects returns what Options.Dialect may be.
func Dialects() []string { return append(orchestrator.Dialects(), Mixed) }

// product is a product of the scene: a device type, and how its host MCUs are
// spoken to.
type product struct {
	dialect    string
	deviceType string
	// named: the bridge's port is configured for the dialect. Otherwise the device
	// type names it.
	named bool
	// line says how a byte is sent, for people who know, and in words.
	line, lineInWords string
	bitsPerByte       int // on the line
	// numericType and attributeSize are 0 where versions have no numbers.
	numericType, attributeSize int
	// mcu makes a host MCU.
	mcu func(sim.MCUConfig) sim.Host
	// limit is the highest goodput in B/s for an image on a line of baud bit/s.
	limit func(image []byte, baud int) (float64, error)
	// counted says of the limit what nobody would expect.
	counted string
	// ceiling is the limit for the image of this demo.
	ceiling float64
}

func aylaProduct() *product {
	return &product{
		dialect: orchestrator.DialectAyla, deviceType: "lab-board",
		line: "8O1", lineInWords: "8 data bits, odd parity, 1 stop bit", bitsPerByte: aylaBits, limit: aylaCeiling,
		mcu: func(c sim.MCUConfig) sim.Host { return sim.NewMCU(c) },
	}
}

// factoryID is the number of the version that afero host MCUs have from the
// factory. The service is told of it before the job.
const factoryID = sim.DefaultVersionID

func aferoProduct() *product {
	p := &product{
		dialect: orchestrator.DialectAfero, deviceType: "lab-lamp",
		line: "8N1", lineInWords: "8 data bits, no parity, 1 stop bit", bitsPerByte: aferoBits, limit: aferoCeiling,
		counted: " in the afero dialect, both transactions of each chunk counted whole;" +
			" they turn the line around ten times, and each turn takes the simulated line a little longer than a real one",
		numericType: sim.DefaultFirmwareType, attributeSize: afpro.DefaultAttributeSize,
	}
	p.mcu = func(c sim.MCUConfig) sim.Host {
		return sim.NewAferoMCU(sim.AferoConfig{MCUConfig: c, Type: uint16(p.numericType), VersionID: factoryID, AttributeSize: p.attributeSize})
	}
	return p
}

// numbered says whether the host MCUs know versions by number.
func (p *product) numbered() bool { return p.numericType != 0 }

// products returns the product at each station. In a mixed fleet the faulty
// station is an afero one.
func products(dialect string) []*product {
	ayla, afero := aylaProduct(), aferoProduct()
	switch dialect {
	case orchestrator.DialectAfero:
		return []*product{afero, afero, afero}
	case Mixed:
		ayla.named, ayla.counted = true, " in the ayla dialect"
		return []*product{ayla, afero, ayla}
	}
	return []*product{ayla, ayla, ayla}
}

// distinct are the products of the scene, each once.
func distinct(all []*product) []*product {
	var once []*product
	for _, p := range all {
		if !slices.Contains(once, p) {
			once = append(once, p)
		}
	}
	return once
}

func checkDialect(name string) error {
	if name != "" && !slices.Contains(Dialects(), name) {
		return fmt.Errorf("--dialect is %q; allowed are %s", name, strings.Join(Dialects(), ", "))
	}
	return nil
}
