// Package logonce decides whether a repeated log line is due again, so that a
// device or a stranger that misbehaves a thousand times a second fills no log.
// It owns the memory of what was said when, which is bounded, and nothing else:
// it logs nothing itself and imports nothing of this module.
package logonce

import (
	"sync"
	"time"
)

// Every is how often a line about the same key may be said.
const Every = time.Minute

// most is how many keys are remembered: some, such as names that fail to sign
// in, are anybody's to make up.
const most = 4096

// Limit lets each key through once a minute. Its zero value is ready; it may be
// used from several goroutines.
type Limit struct {
	mu    sync.Mutex
	last  map[string]time.Time
	swept time.Time // when old keys were last thrown out
}

// Allow says whether a line about key is due. While too many keys are
// remembered it lets no new one through: so many at once tell nothing more.
func (l *Limit) Allow(key string) bool {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := l.last[key]; ok && now.Sub(t) < Every {
		return false
	}
	// A sweep looks at every key, so there is one a minute at most.
	if len(l.last) >= most && now.Sub(l.swept) >= Every {
		l.swept = now
		for k, t := range l.last {
			if now.Sub(t) >= Every {
				delete(l.last, k)
			}
		}
	}
	if len(l.last) >= most {
		return false
	}
	if l.last == nil {
		l.last = make(map[string]time.Time)
	}
	l.last[key] = now
	return true
}
