package schemas

import (
	"slices"
	"strings"
)

// ClaimUserPrefix begins the MQTT user name of a module that has no credentials of its
// own yet: the prefix and the name of a claim. No id has a colon, so no device or
// bridge is called so.
const ClaimUserPrefix = "claim:"

// ParseClaimUser returns the claim's name of an MQTT user name that begins with
// ClaimUserPrefix.
func ParseClaimUser(user string) (claim string, ok bool) {
	claim, ok = strings.CutPrefix(user, ClaimUserPrefix)
	return claim, ok && ValidateID(claim) == nil
}

// claimTokenPrefix makes tokens of claims recognisable, for people and for those who
// search files for secrets.
const claimTokenPrefix = "davit_claim_"

// ClaimToken is the token of a claim with a secret, in which there is no underscore. The
// token says which claim it is of, so that it is all that a module has to be given.
func ClaimToken(claim, secret string) string { return claimTokenPrefix + claim + "_" + secret }

// ParseClaimToken returns the claim that a token says it is of.
func ParseClaimToken(token string) (claim string, ok bool) {
	rest, ok := strings.CutPrefix(token, claimTokenPrefix)
	end := strings.LastIndexByte(rest, '_')
	if !ok || end < 0 {
		return "", false
	}
	return rest[:end], ValidateID(rest[:end]) == nil
}

// Limits of nonces in bytes: as much chance as nobody guesses, in whatever form.
const (
	MinNonceLength = 16
	MaxNonceLength = 64
)

// MaxPasswordLength is the longest password in bytes that the service gives away.
const MaxPasswordLength = 128

// Claim asks the service to make a device and give it a password. A module that has a
// claim's token and no credentials sends it once it subscribes to the answer, Claimed.
type Claim struct {
	V int `json:"v"`
	// Nonce is drawn by the module, once, and kept until it has its password: when the
	// answer is lost, the same nonce gets another password and uses up nothing.
	Nonce string `json:"nonce"`
	// DeviceType that the module believes to be of. A claim for another one is refused,
	// so that a product with the wrong token does not become a wrong device.
	DeviceType string `json:"device_type,omitempty"`
	// HostVersions are as in a hello. The audit log keeps them with the device's making.
	HostVersions map[string]string `json:"host_versions,omitempty"`
}

// Kind returns KindClaim.
func (*Claim) Kind() Kind { return KindClaim }

// Validate implements Payload.
func (c *Claim) Validate() error {
	if err := checkVersion(c.V); err != nil {
		return err
	}
	if err := checkNonce(c.Nonce); err != nil {
		return err
	}
	if c.DeviceType != "" {
		if err := checkID("device_type", c.DeviceType); err != nil {
			return err
		}
	}
	return checkHostVersions(c.HostVersions)
}

func checkNonce(nonce string) error {
	if len(nonce) < MinNonceLength {
		return badPayload("nonce has %d characters, at least %d are needed", len(nonce), MinNonceLength)
	}
	return checkID("nonce", nonce)
}

// RequestError says why a request for credentials is refused.
type RequestError string

// The reasons, which a module can tell apart. All but ErrorBusy and ErrorInternal are
// final for what was asked.
const (
	ErrorMalformed   RequestError = "malformed"   // the request is not one of the contract
	ErrorExists      RequestError = "exists"      // there is a device or bridge of that id
	ErrorQuarantined RequestError = "quarantined" // the device is shut out
	ErrorDeviceType  RequestError = "device_type" // the claim is for another device type
	ErrorNotAllowed  RequestError = "not_allowed" // the claim is not for such ids
	ErrorUsedUp      RequestError = "used_up"     // the claim has no uses left
	ErrorExpired     RequestError = "expired"     // the claim's time is over
	ErrorRevoked     RequestError = "revoked"     // the claim was taken back
	ErrorBusy        RequestError = "busy"        // too soon, or another request is under way: ask again later
	ErrorInternal    RequestError = "internal"    // the service's own fault: ask again later
)

// RequestErrors lists all reasons.
func RequestErrors() []RequestError {
	return []RequestError{ErrorMalformed, ErrorExists, ErrorQuarantined, ErrorDeviceType, ErrorNotAllowed, ErrorUsedUp, ErrorExpired, ErrorRevoked, ErrorBusy, ErrorInternal}
}

// Temporary says whether the same request may be granted later.
func (e RequestError) Temporary() bool { return e == ErrorBusy || e == ErrorInternal }

// Claimed answers a Claim, on the connection that asked and no other: either the
// device with its password, or why not.
type Claimed struct {
	V int `json:"v"`
	// Nonce is that of the request; empty if none could be read.
	Nonce string `json:"nonce,omitempty"`
	// Device is the MQTT user name from now on.
	Device string `json:"device,omitempty"`
	// Password is told this once; the service keeps its hash.
	Password string       `json:"password,omitempty"`
	Error    RequestError `json:"error,omitempty"`
	// Detail explains the error to people.
	Detail string `json:"detail,omitempty"`
}

// Kind returns KindClaimed.
func (*Claimed) Kind() Kind { return KindClaimed }

// Validate implements Payload.
func (c *Claimed) Validate() error {
	if err := checkVersion(c.V); err != nil {
		return err
	}
	if err := checkAnswer(c.Nonce, c.Password, c.Error, c.Detail); err != nil {
		return err
	}
	if (c.Device == "") != (c.Password == "") {
		return badPayload("device and password belong together")
	}
	if c.Device != "" {
		return checkID("device", c.Device)
	}
	return nil
}

// checkAnswer checks what the answers to requests for credentials have in common.
func checkAnswer(nonce, password string, reason RequestError, detail string) error {
	if (password == "") == (reason == "") {
		return badPayload("either password or error has to be there, and not both")
	}
	if password != "" {
		if err := checkNonce(nonce); err != nil {
			return err
		}
		if err := checkText("password", password, MaxPasswordLength); err != nil {
			return err
		}
	} else if nonce != "" {
		if err := checkNonce(nonce); err != nil {
			return err
		}
	}
	if reason != "" && !slices.Contains(RequestErrors(), reason) {
		return badPayload("error is %q, which is none of the contract", reason)
	}
	if reason == "" && detail != "" {
		return badPayload("detail without error")
	}
	return checkText("detail", detail, MaxDetailLength)
}
