package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

// Exchange is a request that is answered on the connection on which it is made.
type Exchange struct {
	Request Message
	Answer  Subscription
	// Take is given each answer. It says whether the exchange is over, or when the request
	// is to be made again.
	Take func(payload []byte) (done bool, again time.Duration)
}

// RefusedError: the broker does not let the user name and password in.
type RefusedError struct {
	// Code is the CONNACK's reason code (MQTT 5, 3.2.2.2).
	Code byte
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the broker refuses the login (reason code %#02x)", e.Code)
}

// repeatAfter is how long an answer is waited for.
const repeatAfter = 15 * time.Second

// Do connects, makes the request until it is answered, and hangs up. What is lost is made
// good by connecting and asking again, so the request has to bear to be repeated. The error
// is a *RefusedError, or ctx's with what went wrong last.
func (x Exchange) Do(ctx context.Context, cfg Config, log *slog.Logger) error {
	made, err := New(cfg, log)
	if err != nil {
		return err
	}
	t := made.(*client)
	up := make(chan *link, 1)
	answers := make(chan []byte, 1)
	failed := make(chan error, 1)
	tell := func(err error) { replace(failed, err) }
	c := t.config(Client{Will: func() Message { return Message{} }, Received: func(topic string, payload []byte) {
		if topic == x.Answer.Topic {
			replace(answers, payload)
		}
	}})
	c.OnConnectError = func(err error) {
		t.toldToWait()
		tell(err)
	}
	c.OnConnectionUp = func(cm *autopaho.ConnectionManager, _ *paho.Connack) {
		t.succeeded()
		replace(up, t.made(cm))
	}
	c.OnConnectionDown = func() bool { t.reconnects.lost(); t.lost(); return true }
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	cm, err := autopaho.NewConnection(life, c)
	if err != nil {
		end()
		return fmt.Errorf("connect to broker: %w", err)
	}
	defer func() {
		bye, cancel := context.WithTimeout(life, packetTimeout/5)
		defer cancel()
		_ = cm.Disconnect(bye) // whether or not the broker hears it
		end()
		<-cm.Done()
		t.lost()
	}()
	return x.ask(ctx, up, answers, failed)
}

// replace puts v into a channel with room for one, in the place of what is there.
func replace[T any](c chan T, v T) {
	for {
		select {
		case c <- v:
			return
		default:
		}
		select {
		case <-c:
		default:
		}
	}
}

// ask makes the request on each connection and takes the answers.
func (x Exchange) ask(ctx context.Context, up <-chan *link, answers <-chan []byte, failed <-chan error) error {
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	var l *link
	var last error
	for {
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), last)
		case err := <-failed:
			var answer *autopaho.ConnackError
			if errors.As(err, &answer) && final(answer.ReasonCode) {
				return &RefusedError{answer.ReasonCode}
			}
			last = err
			continue
		case payload := <-answers:
			done, wait := x.Take(payload)
			if done {
				return nil
			}
			again.Reset(wait)
			continue
		case l = <-up:
			if last = x.subscribe(ctx, l.cm); last != nil {
				continue // the connection is lost, or will be
			}
		case <-again.C:
		}
		if l == nil {
			continue
		}
		m := x.Request
		if err := l.publish(ctx, &paho.Publish{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain}); err != nil {
			last = err
		}
		again.Reset(repeatAfter)
	}
}

func (x Exchange) subscribe(ctx context.Context, cm *autopaho.ConnectionManager) error {
	ctx, cancel := context.WithTimeout(ctx, packetTimeout)
	defer cancel()
	_, err := cm.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: x.Answer.Topic, QoS: x.Answer.QoS}}})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", x.Answer.Topic, err)
	}
	return nil
}

// final says whether a CONNACK's reason is one that trying again does not change: bad user
// name or password, not authorized, client identifier not valid, banned.
func final(code byte) bool { return code == 0x85 || code == 0x86 || code == 0x87 || code == 0x8a }
