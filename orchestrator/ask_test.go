package orchestrator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"davit/schemas"
)

// lender is a session that lends memory and takes everything.
type lender struct{ memory any }

func (l *lender) Memory() *any { return &l.memory }

func (*lender) Send(_ string, _ schemas.ImageBytes, chunks []schemas.Chunk, _ func()) (int, error) {
	return len(chunks), nil
}

// TestForgottenFlowIsNotUsed: a flow that the streamer has forgotten is used no more, whoever
// still knows it: of two sessions by which a device asked the one that was not the last, or an
// Ask. Nobody would look after what is under way by it.
func TestForgottenFlowIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreamer(streamerConfig{moduleCredit: DefaultModuleCredit, totalCredit: DefaultTotalCredit})
		first, last := &lender{}, &lender{}
		old, _ := s.mayAsk("d", first)
		if again, _ := s.mayAsk("d", first); again.flow != old.flow {
			t.Fatal("one session knows two flows")
		}
		if other, _ := s.mayAsk("d", last); other.flow != old.flow {
			t.Fatal("one device has two flows")
		}
		old.flow.session = last
		time.Sleep(2 * lapseMemory)
		s.sweepOnce(time.Now())
		if last.memory != nil || s.devices["d"] != nil {
			t.Fatal("the flow is not forgotten")
		}
		s.addFirst(old, &transfer{chunk: 1000, bytes: 1000, ranges: []schemas.Range{{Length: 1000}}})
		if f := s.devices["d"]; f == nil || f == old.flow {
			t.Error("a fetch went to a flow that is forgotten")
		}
		if now, _ := s.mayAsk("d", first); now.flow != s.devices["d"] {
			t.Error("a session brought a flow back that is forgotten")
		}
	})
}

// TestEndedStreamerTakesNothing: what came too late would hold an image that nobody gives back.
func TestEndedStreamerTakesNothing(t *testing.T) {
	s := newStreamer(streamerConfig{moduleCredit: DefaultModuleCredit, totalCredit: DefaultTotalCredit})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.run(ctx); err != nil {
		t.Fatal(err)
	}
	ask, _ := s.mayAsk("d", nil)
	w := s.addFirst(ask, &transfer{session: &lender{}, chunk: 1000, bytes: 1000, ranges: []schemas.Range{{Length: 1000}}})
	if w != nil || len(ask.flow.queue) > 0 {
		t.Error("a fetch was taken after the end")
	}
}

type nobodysMulticaster struct{}

func (nobodysMulticaster) Multicast(context.Context, string, schemas.ImageBytes, []schemas.Chunk, []Session) int {
	return 0
}

// TestNoFlowIsRememberedThatIsForgotten: a session remembers no flow that is forgotten, also of a
// device that was sent nothing by itself: it was refused, or follows the image's stream.
func TestNoFlowIsRememberedThatIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreamer(streamerConfig{moduleCredit: DefaultModuleCredit, totalCredit: DefaultTotalCredit, multicaster: nobodysMulticaster{}})
		refused, follows := &lender{}, &lender{}
		s.mayAsk("refused", refused)
		ask, _ := s.mayAsk("follows", follows)
		s.addFirst(ask, &transfer{sum: "a", session: follows, follow: true, size: 1000, chunk: 1000, bytes: 1000, ranges: []schemas.Range{{Length: 1000}}})
		if s.following["follows"] == nil {
			t.Fatal("it does not follow")
		}
		s.forget("follows") // it has the image
		time.Sleep(2 * lapseMemory)
		s.sweepOnce(time.Now())
		if len(s.devices) > 0 {
			t.Fatal("a flow is not forgotten")
		}
		if refused.memory != nil {
			t.Error("the session of the one that was refused holds its flow")
		}
		if follows.memory != nil {
			t.Error("the session of the follower holds its flow")
		}
	})
}
