package bridge

import (
	"context"
	"time"

	"davit/internal/logevent"
	"davit/schemas"
)

// listen has a download follow its image's shared stream while it lasts, if m's offer points
// to it. One subscription serves all members. The caller holds ds.mu.
func (ds *downloads) listen(dl *download, m *member) {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	if !m.stream || dl.listening {
		return
	}
	dl.listening, dl.joining = true, true
	ds.all.Go(func() { dl.listen(dl.ctx) })
}

// listen subscribes on every connection until ctx ends, and unsubscribes then.
func (dl *download) listen(ctx context.Context) {
	tick := time.NewTicker(subscribeAgain)
	defer tick.Stop()
	for {
		dl.follow(ctx)
		dl.mu.Lock()
		dl.joining = false
		dl.mu.Unlock()
		dl.nudge()
		select {
		case <-ctx.Done():
			dl.unfollow()
			return
		case <-dl.rejoin:
		case <-tick.C:
		}
	}
}

// follow subscribes, if there is a connection that has no subscription yet.
func (dl *download) follow(ctx context.Context) {
	dl.ds.streams.Lock()
	defer dl.ds.streams.Unlock()
	dl.mu.Lock()
	due := dl.up && !dl.following
	dl.mu.Unlock()
	if !due || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	topic := schemas.StreamTopic(dl.img.SHA256())
	if err := dl.ds.transport.Subscribe(ctx, []Subscription{{Topic: topic, QoS: schemas.KindChunk.QoS()}}); err != nil {
		dl.ds.log.Debug("subscribe", "event", logevent.SubscribeFailed, "topic", topic, "error", err)
		return
	}
	dl.mu.Lock()
	dl.following = dl.up // a connection that is lost meanwhile took the subscription along
	dl.mu.Unlock()
}

// unfollow unsubscribes, unless another download of the image has begun, which goes on with the
// subscription or has one of its own.
func (dl *download) unfollow() {
	dl.ds.streams.Lock()
	defer dl.ds.streams.Unlock()
	if !dl.subscribed() || dl.ds.listens(dl.img.SHA256()) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(dl.ctx), goodbye)
	defer cancel()
	topic := schemas.StreamTopic(dl.img.SHA256())
	if err := dl.ds.transport.Unsubscribe(ctx, []string{topic}); err != nil {
		dl.ds.log.Debug("unsubscribe", "event", logevent.SubscribeFailed, "topic", topic, "error", err)
	}
}

// subscribed says whether the shared stream is subscribed to on the connection that stands.
func (dl *download) subscribed() bool {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	return dl.following
}

// follows says whether chunks of the shared stream are taken. They are not any more when
// the image turned out wrong once: then each chunk is asked for.
func (dl *download) follows() bool {
	return dl.mismatches == 0 && len(dl.badBlocks) == 0 && dl.subscribed()
}

// listens says whether a download follows or is going to follow an image's shared stream.
func (ds *downloads) listens(sum string) bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	dl := ds.running[sum]
	if dl == nil {
		return false
	}
	dl.mu.Lock()
	defer dl.mu.Unlock()
	return dl.listening
}

// stream takes a message of an image's shared stream.
func (ds *downloads) stream(sum string, payload []byte) {
	ds.mu.Lock()
	dl := ds.running[sum]
	ds.mu.Unlock()
	if dl == nil {
		ds.metrics.strayChunk()
		return
	}
	dl.take(arrival{payload, true})
}
