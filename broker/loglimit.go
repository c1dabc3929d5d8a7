package broker

import (
	"sync"
	"time"
)

const (
	// logEvery is how often the same refusal of the same principal is logged.
	logEvery = time.Minute
	// logKeys bounds what is remembered: names that fail to authenticate are
	// anybody's to make up.
	logKeys = 4096
)

// logLimit says whether a refusal is to be logged: once per key and minute.
type logLimit struct {
	mu    sync.Mutex
	last  map[string]time.Time
	swept time.Time // when old keys were last thrown out
}

func (l *logLimit) allow(key string) bool {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := l.last[key]; ok && now.Sub(t) < logEvery {
		return false
	}
	if len(l.last) >= logKeys && now.Sub(l.swept) >= logEvery {
		l.swept = now
		for k, t := range l.last {
			if now.Sub(t) >= logEvery {
				delete(l.last, k)
			}
		}
	}
	if len(l.last) >= logKeys {
		return false // so many at once tell nothing more
	}
	if l.last == nil {
		l.last = make(map[string]time.Time)
	}
	l.last[key] = now
	return true
}
