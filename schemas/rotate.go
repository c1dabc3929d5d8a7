package schemas

import "time"

// Rotate asks the service for another password, for the login that asks: a device, or a
// bridge for itself.
type Rotate struct {
	V int `json:"v"`
	// Nonce is drawn for each change of the password, and the same when the request is
	// repeated because its answer was lost.
	Nonce string `json:"nonce"`
}

// Kind returns KindRotate.
func (*Rotate) Kind() Kind { return KindRotate }

// Validate implements Payload.
func (r *Rotate) Validate() error {
	if err := checkVersion(r.V); err != nil {
		return err
	}
	return checkNonce(r.Nonce)
}

// Rotated is told a login about its password, on its own connections and no others: the
// new one, why there is none, or that it is to ask for one.
type Rotated struct {
	V int `json:"v"`
	// Nonce is that of the request; empty if there was none, or none could be read.
	Nonce string `json:"nonce,omitempty"`
	// Password is told this once. It and the old one are good until the first login with
	// it, which ends the old one, or until Expires, when it ends itself.
	Password string    `json:"password,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
	// Due: the password is to be changed. It is told whenever the login subscribes, until
	// it has logged in with another one.
	Due    bool         `json:"due,omitempty"`
	Error  RequestError `json:"error,omitempty"`
	Detail string       `json:"detail,omitempty"`
}

// Kind returns KindRotated.
func (*Rotated) Kind() Kind { return KindRotated }

// Validate implements Payload.
func (r *Rotated) Validate() error {
	if err := checkVersion(r.V); err != nil {
		return err
	}
	if (r.Password == "") != r.Expires.IsZero() {
		return badPayload("password and expires belong together")
	}
	if !r.Due {
		return checkAnswer(r.Nonce, r.Password, r.Error, r.Detail)
	}
	if r.Nonce != "" || r.Password != "" || r.Error != "" || r.Detail != "" {
		return badPayload("due stands alone")
	}
	return nil
}
