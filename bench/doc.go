// Command bench measures davit's service against mosquitto and nginx on this machine
// and writes what it finds into docs/benchmarks.md:
//
//	go run ./bench
//
// It owns the servers that it starts, each in a process of its own with its files in a
// temporary folder, and the clients, which run in this process: modules that fetch
// chunks, subscribers, HTTP clients. Every byte that arrives is compared. What is
// compared with one another takes turns, so that the noise of the machine hits all of
// it, and figures are medians over the runs with the ratio of each run beside them.
//
// Servers are seen from outside only: their sockets, their HTTP API and /proc. So any
// build of davit can be measured (--davit), and nothing here imports its parts.
package main
