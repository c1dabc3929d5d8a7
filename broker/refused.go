package broker

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"davit/internal/logevent"
)

const (
	// refusedEvery is for how long refusals are counted together.
	refusedEvery = time.Minute
	// refusedLines is how many of an address are told in that time, refusedAll how many of
	// all addresses: names and addresses are both a stranger's to make up.
	refusedLines = 3
	refusedAll   = 60
)

// refusedLog decides which refused CONNECTs are told in the log one by one: the first few
// of each address and minute. The others are one line at the end of that minute. Metrics
// count all of them.
type refusedLog struct {
	log *slog.Logger

	mu     sync.Mutex
	from   map[netip.Prefix]int // told since the minute began; nil outside of one
	told   int
	untold int
	timer  *time.Timer
}

// tell says whether one from an address is to be told now. fresh says that its name was
// not told of in this minute.
func (l *refusedLog) tell(from netip.Prefix, fresh bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.from == nil {
		l.from = make(map[netip.Prefix]int)
		l.timer = time.AfterFunc(refusedEvery, l.sum)
	}
	if !fresh || l.told >= refusedAll || l.from[from] >= refusedLines {
		l.untold++
		return false
	}
	l.told++
	l.from[from]++
	return true
}

// sum ends the minute.
func (l *refusedLog) sum() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.untold > 0 {
		l.log.Warn("more MQTT CONNECTs were refused in the last minute", "event", logevent.BrokerConnectsRefused, "refusals", l.untold)
	}
	l.from, l.told, l.untold = nil, 0, 0
}

// end tells what is left.
func (l *refusedLog) end() {
	l.mu.Lock()
	t := l.timer
	l.mu.Unlock()
	if t != nil && t.Stop() {
		l.sum()
	}
}
