package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"

	claims "davit/bridge/module"
	"davit/bridge/mqtt"
	"davit/internal/app/address"
	"davit/internal/durable"
)

// ClaimOptions say how a module makes itself a device.
type ClaimOptions struct {
	// Broker is the URL of the MQTT broker, or HOST:PORT.
	Broker string
	// CAFile is a PEM file with the certificates that vouch for the broker; empty means
	// the system's.
	CAFile string
	// TokenFile holds the claim's token.
	TokenFile string
	// Device is the id that the device is to have, DeviceType what it believes to be of,
	// which may be empty.
	Device, DeviceType string
	// Out is the file for the password. Beside it, as long as there is none, Out.claim holds
	// the nonce of the request.
	Out string
	// Force overwrites Out.
	Force bool
	Log   *slog.Logger
}

// claimSuffix is that of the file with the nonce.
const claimSuffix = ".claim"

// ClaimDevice makes a device with a claim's token and writes its password to a file. What
// breaks off, or is killed, goes on where it was when it is called again: the nonce is on
// disk before it is used, and removed once the password is.
func ClaimDevice(ctx context.Context, o ClaimOptions) error {
	if _, err := os.Lstat(o.Out); err == nil && !o.Force {
		return fmt.Errorf("%s exists; say --force to overwrite it, or name another file with --out", o.Out)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	token, err := ReadToken(o.TokenFile)
	if err != nil {
		return fmt.Errorf("read the token: %w", err)
	}
	u, err := url.Parse(address.Broker(o.Broker))
	if err != nil {
		return fmt.Errorf("broker URL: %w", err)
	}
	c := claims.ClaimConfig{URL: u.String(), Token: token, Device: o.Device, DeviceType: o.DeviceType, Log: o.Log}
	if o.CAFile != "" {
		if c.TLS, err = (mqtt.TLSFiles{CA: o.CAFile}).Load(u.Hostname()); err != nil {
			return err
		}
	}
	if c.Nonce, err = claimNonce(o.Out + claimSuffix); err != nil {
		return err
	}
	password, err := claims.Claim(ctx, c)
	var refused *mqtt.RefusedError
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("%w: is the token the right one, and is the claim good for %q? davit claim show tells; over a network claims take TLS (mqtts://)", err, o.Device)
	case err != nil:
		return err
	}
	if err := durable.WriteFile(o.Out, []byte(password+"\n"), 0o600); err != nil {
		return fmt.Errorf("the device has a password and it is not kept; repeat the command to get another: %w", err)
	}
	return os.Remove(o.Out + claimSuffix)
}

// claimNonce returns the nonce of the file, which it makes if there is none.
func claimNonce(path string) (string, error) {
	nonce, err := ReadToken(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return nonce, err
	}
	nonce = claims.NewNonce()
	if err := durable.WriteFile(path, []byte(nonce+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep what the request is told by: %w", err)
	}
	return nonce, nil
}
