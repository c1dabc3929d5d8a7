// Package rack holds the test of a rack: the whole product with one bridge process for many serial ports, each a
// pseudo-terminal at the speed of a real line with a simulated host MCU behind it. It measures what each port gets of
// its line's ceiling, and what the bridge costs in CPU and memory (docs/benchmarks.md).
//
// There is nothing in it but tests.
package rack
