// Package query is the language in which people describe devices: an expression
// over one device that is true or false, such as
//
//	type == "thermostat" and online and version.application < "2.0.0"
//
// docs/queries.md explains it. The grammar, the check of types and the evaluation
// are those of expr-lang/expr, restricted to what docs/queries.md names: no loops,
// no arithmetic, no patterns, so that the work for one device is bounded by the
// length of the text.
//
// The package is the only importer of expr-lang/expr and imports nothing of ours. A
// Query never changes and may be used from any goroutine; a Matcher belongs to one.
package query
