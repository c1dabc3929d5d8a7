package gateway

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"

	"davit/gateway/people"
	"davit/internal/logevent"
)

// DefaultRequestRate is how many requests a second one token or user may make unless
// told otherwise.
const DefaultRequestRate = 200

// Limits on what is asked at a time and in what form.
const (
	// rateBurst is how many seconds' worth of requests may come at once.
	rateBurst = 5
	// strangersShare is by how much less an address may ask that has not signed in.
	strangersShare = 4
	// maxAtOnce is how many requests of one token or user may be under way, long polls
	// and streams among them, which have limits of their own.
	maxAtOnce = 1024
	// maxStrangersAtOnce is the same for an address that has not signed in.
	maxStrangersAtOnce = 64
	// maxAllAtOnce is the same for all together.
	maxAllAtOnce = 4096
	// maxAskers bounds how many tokens, users and addresses are remembered; when
	// there are more, the new ones share one limit.
	maxAskers = 10_000
	// maxHeaderFields is how many header fields a request may have.
	maxHeaderFields = 100
)

// The limits as the metrics label them.
const (
	limitRate      = "request_rate"
	limitAtOnce    = "requests_at_once"
	limitAllAtOnce = "all_requests_at_once"
	limitForm      = "form"
)

// traffic bounds how many requests each token, user and address makes: a second, and at
// a time. It is safe for concurrent use.
type traffic struct {
	rate int // a second, of those who have signed in

	mu       sync.Mutex // guards what follows
	all      int        // under way
	askers   map[string]*asker
	nextTidy time.Time
}

// asker is one who makes requests.
type asker struct {
	rate  *rate.Limiter
	most  int // requests at a time
	under int // requests that are under way
}

func newTraffic(perSecond int) *traffic {
	return &traffic{rate: perSecond, askers: map[string]*asker{}}
}

// exceeded says which limit a request is over.
type exceeded struct {
	limit  string // for the metric
	detail string
	after  time.Duration // until it is worth trying again
}

// enter counts a request of who makes it, which leave ends; or it says over which
// limit it is.
func (t *traffic) enter(who *people.Principal, address string, now time.Time) (leave func(), over *exceeded) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, name := t.asker(who, address, now)
	switch {
	case !a.rate.AllowN(now, 1):
		wait := time.Duration((1 - a.rate.TokensAt(now)) / float64(a.rate.Limit()) * float64(time.Second))
		return nil, &exceeded{limitRate, fmt.Sprintf("Too many requests: %s may make %g a second.", name, float64(a.rate.Limit())), wait}
	case a.under >= a.most:
		return nil, &exceeded{limitAtOnce, fmt.Sprintf("Too many requests at a time: of %s, %d are under way already.", name, a.most), time.Second}
	case t.all >= maxAllAtOnce:
		return nil, &exceeded{limitAllAtOnce, fmt.Sprintf("The server is busy: %d requests are under way already.", maxAllAtOnce), time.Second}
	}
	a.under++
	t.all++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		a.under--
		t.all--
	}, nil
}

// asker finds who is counted, and what they are called in an answer; t.mu is held.
func (t *traffic) asker(who *people.Principal, address string, now time.Time) (a *asker, name string) {
	key, name := "address/"+people.Network(address), "an address that has not signed in"
	perSecond, most := max(1, t.rate/strangersShare), maxStrangersAtOnce
	if who != nil {
		key, name = "user/"+who.User+"/"+who.Token, "one user or token"
		perSecond, most = t.rate, maxAtOnce
	}
	if a = t.askers[key]; a != nil {
		return a, name
	}
	if len(t.askers) >= maxAskers {
		t.tidy(now)
	}
	if len(t.askers) >= maxAskers && who == nil {
		if key = "address/"; t.askers[key] != nil { // of the many
			return t.askers[key], name
		}
	}
	a = &asker{rate: rate.NewLimiter(rate.Limit(perSecond), perSecond*rateBurst), most: most}
	t.askers[key] = a
	return a, name
}

// tidy forgets who has nothing under way and all of their requests again. It looks at all
// of them, so it runs once a second at most; t.mu is held.
func (t *traffic) tidy(now time.Time) {
	if now.Before(t.nextTidy) {
		return
	}
	t.nextTidy = now.Add(time.Second)
	for key, a := range t.askers {
		if a.under == 0 && a.rate.TokensAt(now) >= float64(a.rate.Burst()) {
			delete(t.askers, key)
		}
	}
}

// admit lets a request pass, if whoever makes it may make one more, and says so with 429
// otherwise. The caller calls leave when it is answered; nil says that it is.
func (a *API) admit(w http.ResponseWriter, who *people.Principal, address string) (leave func()) {
	leave, over := a.traffic.enter(who, address, time.Now())
	if over == nil {
		return leave
	}
	a.options.Metrics.limited(over.limit)
	name := "an address: " + address
	if who != nil {
		name = who.User
	}
	if a.logged.Allow(over.limit + "/" + name) {
		a.options.Log.Warn("HTTP requests over a limit are refused", "event", logevent.RequestsLimited, "limit", over.limit, "principal", name, "remote", address)
	}
	seconds := max(1, int(math.Ceil(over.after.Seconds())))
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	writeProblem(w, newProblem(http.StatusTooManyRequests, fmt.Sprintf("%s Try again in %d s.", over.detail, seconds)))
	return nil
}

// misshapen is what is wrong with the form of a request, whoever makes it: what is packed
// could unpack to anything, and header fields cost more than their bytes.
func misshapen(r *http.Request) *huma.ErrorModel {
	for _, coding := range r.Header.Values("Content-Encoding") {
		if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
			return newProblem(http.StatusUnsupportedMediaType, "This server takes no compressed bodies (Content-Encoding "+fmt.Sprintf("%.32q", coding)+"); send the body as it is.")
		}
	}
	fields := 0
	for _, values := range r.Header {
		fields += len(values)
	}
	if fields > maxHeaderFields {
		return newProblem(http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("The request has %d header fields; at most %d are taken.", fields, maxHeaderFields))
	}
	return nil
}

// wellFormed refuses misshapen requests.
func (a *API) wellFormed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := misshapen(r)
		if p == nil {
			next.ServeHTTP(w, r)
			return
		}
		if p.Status == http.StatusUnsupportedMediaType {
			w.Header().Set("Accept-Encoding", "identity") // RFC 7694, section 3
		}
		a.options.Metrics.limited(limitForm)
		writeProblem(w, p)
	})
}
