package module

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"davit/bridge/mqtt"
	"davit/internal/logevent"
	"davit/schemas"
)

// ClaimConfig says how a module without credentials makes itself a device.
type ClaimConfig struct {
	// URL of the broker, as in mqtt.Config, and its TLS; nil means the system's trust.
	URL string
	TLS *tls.Config
	// Token of the claim.
	Token string
	// Device is the id that the module wants to have.
	Device string
	// DeviceType that the module believes to be of, or empty: a claim for another one is
	// refused.
	DeviceType string
	// HostVersions are as in a hello, or nil.
	HostVersions map[string]string
	// Nonce is what NewNonce returned. Keep it where it survives a power cut from before
	// the call until the password is kept: with the same one, an answer that was lost is
	// given again, and without it the device's id is taken.
	Nonce string
	// Log may be nil.
	Log *slog.Logger
}

// NewNonce draws a nonce for ClaimConfig.
func NewNonce() string { return rand.Text() }

// ClaimRefusedError: the service does not make the device.
type ClaimRefusedError struct {
	Reason schemas.RequestError
	Detail string
}

// Error implements error.
func (e *ClaimRefusedError) Error() string {
	if e.Detail == "" {
		return "the claim is refused: " + string(e.Reason)
	}
	return fmt.Sprintf("the claim is refused: %s (%s)", e.Detail, e.Reason)
}

// Times between repetitions of a claim that the service could not handle.
const (
	firstAgain = 2 * time.Second
	lastAgain  = time.Minute
)

// Claim makes a device with a claim's token and returns its password; its user name is the
// device's id. It goes on trying until ctx ends. The error is a *ClaimRefusedError, a
// *mqtt.RefusedError if the token is not let in, or ctx's with what went wrong.
func Claim(ctx context.Context, cfg ClaimConfig) (password string, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	claim, ok := schemas.ParseClaimToken(cfg.Token)
	if !ok {
		return "", errors.New("this is no token of a claim: one begins with davit_claim_ (davit claim create)")
	}
	if err := schemas.ValidateID(cfg.Device); err != nil {
		return "", fmt.Errorf("device: %w", err)
	}
	payload, err := schemas.Encode(&schemas.Claim{V: schemas.Version, Nonce: cfg.Nonce, DeviceType: cfg.DeviceType, HostVersions: cfg.HostVersions})
	if err != nil {
		return "", err
	}
	topic := func(k schemas.Kind) string { return schemas.Topic{Device: cfg.Device, Kind: k}.String() }
	var refused error
	wait := firstAgain
	x := mqtt.Exchange{
		Request: mqtt.Message{Topic: topic(schemas.KindClaim), Payload: payload, QoS: schemas.KindClaim.QoS()},
		Answer:  mqtt.Subscription{Topic: topic(schemas.KindClaimed), QoS: schemas.KindClaimed.QoS()},
		Take: func(payload []byte) (done bool, again time.Duration) {
			var a schemas.Claimed
			if err := schemas.Decode(payload, &a); err != nil || a.Nonce != cfg.Nonce && a.Error != schemas.ErrorMalformed {
				cfg.Log.Warn("an answer that is not ours", "event", logevent.ClaimAnswerInvalid, "error", err)
				return false, firstAgain
			}
			if a.Error.Temporary() {
				cfg.Log.Warn("the service asks for patience", "event", logevent.ClaimDelayed, "reason", a.Error, "detail", a.Detail)
				again, wait = wait, min(2*wait, lastAgain)
				return false, again
			}
			if a.Error != "" {
				refused = &ClaimRefusedError{a.Error, a.Detail}
			}
			password = a.Password
			return true, 0
		},
	}
	err = x.Do(ctx, mqtt.Config{URL: cfg.URL, TLS: cfg.TLS, ClientID: cfg.Device, Username: schemas.ClaimUserPrefix + claim, Password: cfg.Token}, cfg.Log)
	if err == nil {
		err = refused
	}
	return password, err
}
