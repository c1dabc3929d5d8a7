package mqtt

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// ErrCredentials is wrapped by the error of Probe when the broker answers and does not let the
// user in.
var ErrCredentials = errors.New("the broker does not accept the user name and password, or the certificate")

// Probe connects once, with a client id that no connection has, and disconnects in order: no
// subscription is made and nothing is published. The error says which step failed: to reach the
// address, to agree on TLS, or to log in.
func Probe(ctx context.Context, cfg Config) error {
	t, err := New(cfg, nil)
	if err != nil {
		return err
	}
	u := t.(*client).url
	failed := make(chan error, 1)
	life, end := context.WithCancel(ctx)
	defer end()
	password := cfg.Password
	if cfg.Login != nil {
		password = cfg.Login.Password()
	}
	conf := autopaho.ClientConfig{
		ServerUrls: []*url.URL{u}, TlsCfg: cfg.TLS, KeepAlive: keepAliveSeconds, CleanStartOnInitialConnection: true,
		ConnectTimeout: packetTimeout, ConnectUsername: cfg.Username, ConnectPassword: []byte(password),
		OnConnectError: func(err error) {
			select {
			case failed <- err:
			default: // the first one counts
			}
			end()
		},
		ClientConfig: paho.ClientConfig{ClientID: "davit-doctor-" + rand.Text()[:10], PacketTimeout: packetTimeout},
	}
	if u.Scheme != "ws" && u.Scheme != "wss" { // the library says of those which step failed
		conf.AttemptConnection = func(ctx context.Context, _ autopaho.ClientConfig, u *url.URL) (net.Conn, error) {
			return dial(ctx, u, cfg.TLS)
		}
	}
	cm, err := autopaho.NewConnection(life, conf)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", u.Redacted(), err)
	}
	up := cm.AwaitConnection(life)
	if up == nil {
		up = cm.Disconnect(life)
	}
	end()
	<-cm.Done()
	select {
	case err := <-failed:
		return refusal(u, err)
	default:
	}
	if up != nil {
		return fmt.Errorf("%s gives no answer to an MQTT CONNECT: %w", u.Redacted(), up)
	}
	return nil
}

// errStep is of a step before MQTT; its text is for people.
type errStep struct{ error }

func (e errStep) Unwrap() error { return e.error }

// refusal says in words why there is no connection.
func refusal(u *url.URL, err error) error {
	var step errStep
	if errors.As(err, &step) {
		return step
	}
	var answer *autopaho.ConnackError
	if !errors.As(err, &answer) {
		return fmt.Errorf("%s gives no good answer to an MQTT CONNECT: %w", u.Redacted(), err)
	}
	switch answer.ReasonCode {
	case packets.ConnackBadUsernameOrPassword, packets.ConnackNotAuthorized:
		return fmt.Errorf("%s: %w", u.Redacted(), ErrCredentials)
	}
	return fmt.Errorf("%s refuses the connection: %w", u.Redacted(), err)
}

// dial reaches the address, and agrees on TLS where that is asked for.
func dial(ctx context.Context, u *url.URL, conf *tls.Config) (net.Conn, error) {
	dialer := net.Dialer{Timeout: packetTimeout / 2}
	conn, err := dialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, errStep{fmt.Errorf("%s cannot be reached: %w", u.Host, err)}
	}
	if !speaksTLS(u) {
		return conn, nil
	}
	if conn, err = secure(ctx, conn, u.Hostname(), conf); err != nil {
		return nil, errStep{fmt.Errorf("%s does not agree on TLS: %w", u.Host, err)}
	}
	return conn, nil
}
