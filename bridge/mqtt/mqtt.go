// Package mqtt is a module's connection to the broker: what it has to be able to do
// (Transport), and the one over MQTT 5 that the bridge uses (New). It keeps the connection
// up and subscribed and guarantees nothing else; what matters is repeated until the service
// has acknowledged it. It knows no topic of the contract; what it knows of it are the names of
// user properties, of which package schemas has one list.
package mqtt

import "context"

// Message is an MQTT message to be published.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	// Traceparent and Tracestate are sent as user properties unless they are empty.
	Traceparent, Tracestate string
}

// Subscription is a topic filter with the quality of service asked for.
type Subscription struct {
	Topic string
	QoS   byte
}

// Client is what a Transport needs to know of the module and whom it tells.
type Client struct {
	// Will is asked for at every connection: the broker publishes it when that one
	// is lost.
	Will func() Message
	// Subscriptions is asked for once a connection stands: they are made anew on
	// every one.
	Subscriptions func() []Subscription
	// Connected is called when a connection stands and is subscribed,
	// Disconnected when it is lost, Received for every message. None of them
	// blocks; the payload is the receiver's to keep.
	Connected    func()
	Disconnected func()
	Received     func(topic string, payload []byte)
	// Traced is called instead of Received for a message with a trace context (W3C
	// Trace Context, as user properties of MQTT 5), which is not checked; nil has
	// Received called for those too.
	Traced func(topic string, payload []byte, traceparent, tracestate string)
}

// Transport is a module's connection to the broker. Guarantees are the
// contract's, not the transport's: a message may be lost at any time.
type Transport interface {
	// Run keeps one connection up until ctx ends, and returns nil then.
	Run(ctx context.Context, c Client) error
	// Publish returns when the broker has taken the message (QoS 1) or when
	// it has been sent (QoS 0), or an error if there is no connection.
	Publish(ctx context.Context, m Message) error
	// Subscribe adds subscriptions to the connection that stands, and Unsubscribe
	// takes topics off it; an error means that there is none or that it did not
	// answer. Later connections have what Client.Subscriptions says.
	Subscribe(ctx context.Context, subscriptions []Subscription) error
	Unsubscribe(ctx context.Context, topics []string) error
}
