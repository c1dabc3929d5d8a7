package broker

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"davit/schemas"
)

// claims admits the token "good" of any claim but those that are refused, and answers
// requests with who asks.
func claims(c *Config) {
	c.AdmitClaim = func(_ context.Context, claim, token, device string) error {
		switch {
		case token != "good":
			return ErrClaimToken
		case claim == "revoked":
			return fmt.Errorf("%w: it was revoked", ErrClaimRefused)
		}
		return nil
	}
	c.OnRequest = func(_ context.Context, r Request) []byte {
		return fmt.Appendf(nil, "%s %s %s %s", r.Kind, r.Claim, r.Device, r.Payload)
	}
}

func claimLogin(claim, token string) login { return login{"claim:" + claim, token} }

// What a connection with a claim's token may do: ask for its device and hear the answer,
// which nobody else does.
func TestClaimantMayDoOneThing(t *testing.T) {
	for _, version := range []byte{4, 5} {
		b := start(t, claims)
		pump := addDevice(t, b, "pump-7")
		owner := connect(t, b.addr(), connectOptions{login: pump})
		if codes := owner.subscribe(1, topic("pump-7", schemas.KindClaimed)); codes[0] < 0x80 {
			t.Errorf("a device may listen to answers to claims: %#x", codes)
		}
		if code := owner.publish(topic("pump-7", schemas.KindClaim), 1, false, "x"); code != packets.ErrNotAuthorized.Code {
			t.Errorf("a device may claim: %#x", code)
		}
		c := connect(t, b.addr(), connectOptions{login: claimLogin("line-1", "good"), clientID: "pump-7", version: version})
		// Another claim for the same id.
		other := connect(t, b.addr(), connectOptions{login: claimLogin("line-2", "good"), clientID: "pump-7", version: version})
		other.subscribe(1, topic("pump-7", schemas.KindClaimed))
		// Without a PUBACK, which the answer may overtake.
		ask := func() { c.send(publishPacket(topic("pump-7", schemas.KindClaim), 0, false, "please")) }
		ask() // nobody hears the answer, so nothing is done
		for _, filter := range []string{
			"#", "davit/v1/+/claimed", "davit/v1/pump-8/claimed", "davit/v1/pump-7/offer", "davit/v1/pump-7/claim", "$share/g/davit/v1/pump-7/claimed",
			schemas.StreamTopic(strings.Repeat("a", 64)),
		} {
			if codes := c.subscribe(1, filter); codes[0] < 0x80 {
				t.Errorf("subscribe %s: %#x", filter, codes)
			}
		}
		if codes := c.subscribe(1, topic("pump-7", schemas.KindClaimed)); codes[0] != 1 {
			t.Fatalf("%#x", codes)
		}
		for _, kind := range schemas.Kinds() {
			c.publish(topic("pump-7", kind), 1, false, "x")
		}
		c.publish(topic("pump-8", schemas.KindClaim), 1, false, "x")
		c.publish(topic("pump-7", schemas.KindClaim), 1, true, "retained")
		c.publish(topic("pump-7", schemas.KindClaim), 1, false, strings.Repeat("x", schemas.KindClaim.MaxPayload()+1))
		ask()
		if m := c.message(); string(m.Payload) != "claim line-1 pump-7 please" || m.FixedHeader.Qos != 1 {
			t.Errorf("%q with QoS %d", m.Payload, m.FixedHeader.Qos)
		}
		other.quiet()
	}
}

func TestClaimantIsRefused(t *testing.T) {
	b := start(t, func(c *Config) {
		claims(c)
		c.Listeners = append(c.Listeners, Listener{Transport: TCP, Addr: "127.0.0.1:0", NoPasswords: true})
	})
	for _, c := range []struct {
		login
		client string
		code   byte
	}{
		{claimLogin("line-1", "bad"), "pump-7", 0x86}, {claimLogin("line-1", ""), "pump-7", 0x86}, {claimLogin("a/b", "good"), "pump-7", 0x86}, {claimLogin("", "good"), "pump-7", 0x86},
		{claimLogin("line-1", strings.Repeat("x", 300)), "pump-7", 0x86},
		{claimLogin("revoked", "good"), "pump-7", 0x87}, {claimLogin("line-1", "good"), "", 0x87}, {claimLogin("line-1", "good"), "pump 7", 0x87},
	} {
		if _, ack := try(t, b.addr(), connectOptions{login: c.login, clientID: c.client}); ack.ReasonCode != c.code {
			t.Errorf("%s as %q: %#x, want %#x", c.user, c.client, ack.ReasonCode, c.code)
		}
	}
	// Where passwords are off, so are tokens that pass in clear.
	if _, ack := try(t, b.Addrs()[1].String(), connectOptions{login: claimLogin("line-1", "good"), clientID: "pump-7"}); ack.ReasonCode != 0x87 {
		t.Errorf("in clear: %#x", ack.ReasonCode)
	}
	if n := b.claimants.Load(); n != 0 {
		t.Errorf("%d claimants are counted", n)
	}
}

// Guesses of tokens are as slow as those of passwords, whether the token is wrong or the
// claim is over.
func TestGuessedTokensAreSlow(t *testing.T) {
	b := start(t, func(c *Config) {
		claims(c)
		c.Limits.FailureRate = 2
	})
	begin := time.Now()
	for i := range 5 {
		try(t, b.addr(), connectOptions{login: claimLogin([]string{"line-1", "revoked"}[i%2], []string{"bad", "good"}[i%2]), clientID: "pump-7"})
	}
	if took := time.Since(begin); took < 900*time.Millisecond {
		t.Errorf("5 guesses at 2 a second took %v", took)
	}
}

// One request at a time, and a few on one connection.
func TestClaimantAsksTooMuch(t *testing.T) {
	var asked atomic.Int32
	hold := make(chan struct{})
	b := start(t, func(c *Config) {
		claims(c)
		c.OnRequest = func(context.Context, Request) []byte {
			asked.Add(1)
			<-hold
			return []byte("answer")
		}
	})
	c := connect(t, b.addr(), connectOptions{login: claimLogin("line-1", "good"), clientID: "pump-7"})
	c.subscribe(1, topic("pump-7", schemas.KindClaimed))
	for i := range maxAsked {
		want := byte(0)
		if i > 0 {
			want = packets.ErrQuotaExceeded.Code
		}
		if code := c.publish(topic("pump-7", schemas.KindClaim), 1, false, "x"); code != want {
			t.Errorf("request %d: %#x, want %#x", i+1, code, want)
		}
	}
	close(hold)
	c.message()
	c.send(publishPacket(topic("pump-7", schemas.KindClaim), 0, false, "one more"))
	if code := c.ended(); code != packets.ErrQuotaExceeded.Code {
		t.Errorf("ended with %#x", code)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d requests were handled", n)
	}
	eventually(t, "the claimant is gone", func() bool { return b.claimants.Load() == 0 })
}

// The lease of a claimant ends its connection.
func TestClaimantsLease(t *testing.T) {
	b := start(t, claims)
	c := connect(t, b.addr(), connectOptions{login: claimLogin("line-1", "good"), clientID: "pump-7"})
	var who *conn
	eventually(t, "it has joined", func() bool {
		if all := b.sessions.of("claim:line-1/pump-7"); len(all) == 1 {
			who = all[0]
		}
		return who != nil
	})
	c.publish(topic("pump-7", schemas.KindHello), 1, false, "x") // it is past its CONNACK, and so has a lease
	who.principal.claimant.lease.Reset(0)
	if code := c.ended(); code != packets.ErrMaxConnectTime.Code {
		t.Errorf("ended with %#x", code)
	}
}

// A claimed password is replaced until it is used, and never afterwards.
func TestClaimedPassword(t *testing.T) {
	b := start(t, nil)
	creds := b.cfg.Credentials
	put := func(fresh bool) string {
		t.Helper()
		pw, err := creds.PutClaimed("pump-7", fresh)
		check(t, err)
		return pw
	}
	first := put(true)
	put(false)
	if _, ack := try(t, b.addr(), connectOptions{login: login{"pump-7", first}}); ack.ReasonCode != 0x86 {
		t.Errorf("the password that was replaced: %#x", ack.ReasonCode)
	}
	if _, err := creds.PutClaimed("pump-7", false); err != nil {
		t.Errorf("after a wrong password: %v", err)
	}
	second := put(false)
	c := connect(t, b.addr(), connectOptions{login: login{"pump-7", second}})
	if _, err := creds.PutClaimed("pump-7", false); err == nil {
		t.Error("a password that is used is replaced")
	}
	c.publish(topic("pump-7", schemas.KindHello), 1, false, "x") // the connection stands
	again, err := OpenCredentials(filepath.Dir(creds.path))
	check(t, err)
	if _, err := again.PutClaimed("pump-7", false); err == nil {
		t.Error("after a restart, a password that was used is replaced")
	}
	if _, err := creds.AddBridge("rack", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := creds.PutClaimed("rack", true); err == nil {
		t.Error("a bridge is claimed")
	}
	put(true)
	if code := c.ended(); code == 0 {
		t.Error("a device of the same name that was made anew leaves the connection")
	}
}
