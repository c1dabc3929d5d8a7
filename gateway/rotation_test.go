package gateway_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"davit/gateway"
	"davit/orchestrator"
	"davit/orchestrator/fileblobs"
	"davit/orchestrator/memstore"
	"davit/schemas"
)

// rotationRig has n logins, p0 and so on, that ask for other passwords.
func rotationRig(t *testing.T, n int) (c *fakeCredentials, ask func(login int, nonce string) schemas.Rotated) {
	t.Helper()
	blobs, err := fileblobs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	service, err := orchestrator.New(orchestrator.Options{Store: memstore.New(), Blobs: blobs, Publisher: nowhere{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c = &fakeCredentials{principals: map[string]gateway.Principal{}, logins: map[string]gateway.LoginState{}}
	for i := range n {
		name := fmt.Sprintf("p%d", i)
		c.principals[name] = gateway.Principal{Name: name}
	}
	r := gateway.NewRotations(gateway.NewProvisioner(service, c), nil, slog.New(slog.DiscardHandler))
	return c, func(login int, nonce string) schemas.Rotated {
		return r.Answer(t.Context(), fmt.Sprintf("p%d", login), false, "192.0.2.1:1", []byte(`{"v":1,"nonce":"`+nonce+`"}`))
	}
}

const thisNonce, otherNonce = "QJ7S4M2KX5T6W3RA", "another-nonce-of-it"

// TestRepeatedRotation: for a minute the same nonce gets the same password, however often
// and from how many connections it is asked, and no other nonce gets one.
func TestRepeatedRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ask := rotationRig(t, 2)
		var first [8]schemas.Rotated
		var all sync.WaitGroup
		for i := range first {
			all.Go(func() { first[i] = ask(0, thisNonce) })
		}
		all.Wait()
		for _, a := range first {
			if a.Password == "" || a != first[0] {
				t.Errorf("%+v, and %+v", first[0], a)
			}
		}
		if a := ask(0, otherNonce); a.Error != schemas.ErrorBusy {
			t.Errorf("another change at once: %+v", a)
		}
		if a := ask(1, thisNonce); a.Password == "" || a.Password == first[0].Password {
			t.Errorf("another login: %+v", a)
		}
		time.Sleep(time.Minute - 1)
		if a := ask(0, thisNonce); a != first[0] || c.issued != 2 {
			t.Errorf("%+v after %d passwords", a, c.issued)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if a := ask(0, thisNonce); a.Password == "" || a.Password == first[0].Password {
			t.Errorf("after the minute: %+v", a)
		}
	})
}

// TestRepeatedRotationThatIsOver: a password that was used, or that people have replaced, is
// given no more, and no other one before the minute is over.
func TestRepeatedRotationThatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ask := rotationRig(t, 1)
		first := ask(0, thisNonce)
		c.logins["p0"] = gateway.LoginState{PasswordSince: time.Now()}
		if a := ask(0, thisNonce); a.Error != schemas.ErrorBusy || a.Password != "" || c.issued != 1 {
			t.Errorf("%+v", a)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if a := ask(0, thisNonce); a.Password == "" || a.Password == first.Password {
			t.Errorf("after the minute: %+v", a)
		}
	})
}

// TestRotationThatFails is tried again with the same nonce, but no more than three times in
// a minute.
func TestRotationThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ask := rotationRig(t, 1)
		c.fail(true, false)
		for range 2 {
			if a := ask(0, thisNonce); a.Error != schemas.ErrorInternal {
				t.Errorf("%+v", a)
			}
		}
		c.fail(false, false)
		first := ask(0, thisNonce)
		if again := ask(0, thisNonce); first.Password == "" || again != first {
			t.Errorf("%+v, and again %+v", first, again)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		c.fail(true, false)
		for i, want := range []schemas.RequestError{schemas.ErrorInternal, schemas.ErrorInternal, schemas.ErrorInternal, schemas.ErrorBusy} {
			if a := ask(0, thisNonce); a.Error != want {
				t.Errorf("try %d: %+v", i+1, a)
			}
		}
	})
}

// TestRotationsKeepFewPasswords: beyond a number of logins at once none is kept in memory;
// a repetition has another one made then.
func TestRotationsKeepFewPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const kept = 4096
		_, ask := rotationRig(t, kept+1)
		passwords := make([]string, kept+1)
		for i := range passwords {
			passwords[i] = ask(i, thisNonce).Password
		}
		if a := ask(kept-1, thisNonce); a.Password != passwords[kept-1] {
			t.Errorf("the last that is kept: %+v, want %q", a, passwords[kept-1])
		}
		for i, want := range []schemas.RequestError{"", "", schemas.ErrorBusy} {
			if a := ask(kept, thisNonce); a.Error != want || a.Password == passwords[kept] {
				t.Errorf("one that is not, repetition %d: %+v", i+1, a)
			}
		}
	})
}
