package bridge

import "davit/bridge/mqtt"

// What a bridge needs of its connection to the broker is what every module needs.
type (
	Transport    = mqtt.Transport
	Client       = mqtt.Client
	Message      = mqtt.Message
	Subscription = mqtt.Subscription
)
