// Package mqtt is a small MQTT client (3.1.1 and 5, QoS 0 and 1, plain TCP) for
// programs that hold very many connections: the simulated fleet and the benchmarks.
// It knows nothing of davit's topics; of the contract it knows how a busy service says when to
// come back.
//
// A connection costs one goroutine, which waits in Conn.Serve, and no buffer while
// nothing is on its way: what is read and written passes through pooled buffers. There
// are no timers. Whoever holds the connections calls KeepAlive at times, and does
// whatever else is to be done at a time.
//
// QoS 2, topic aliases, sessions that outlive their connection and re-sending are left
// out: davit's contract needs none of them.
package mqtt
