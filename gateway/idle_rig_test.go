package gateway_test

import (
	"log/slog"
	"net/http"
	"testing"

	"davit/gateway"
	"davit/gateway/people"
	"davit/internal/logevent"
	"davit/orchestrator"
	"davit/orchestrator/fileblobs"
	"davit/orchestrator/memstore"
)

// directory is an empty one; whoever has adminToken is an administrator.
func directory(t testing.TB, store orchestrator.Store) *people.Directory {
	t.Helper()
	d, err := people.New(people.Options{Store: store, AdminToken: adminToken, Log: slog.New(slog.DiscardHandler), Hashing: cheapHashing()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// idle is the API without a socket, on a service that does nothing by itself.
type idle struct {
	api         http.Handler
	service     *orchestrator.Service
	people      *people.Directory
	credentials *fakeCredentials
}

func idleAPI(t testing.TB) *idle {
	t.Helper()
	return idleAPIOn(t, nil)
}

// idleAPIOn is the same on another service, if there is one.
func idleAPIOn(t testing.TB, other gateway.Service) *idle {
	t.Helper()
	r := &idle{credentials: &fakeCredentials{principals: map[string]gateway.Principal{}, logins: map[string]gateway.LoginState{}}}
	blobs, err := fileblobs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	store := memstore.New()
	r.service, err = orchestrator.New(orchestrator.Options{Store: store, Blobs: blobs, Publisher: nowhere{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r.people = directory(t, store)
	if other == nil {
		other = r.service
	}
	levels, err := logevent.NewLevels("info", logevent.ServiceParts())
	if err != nil {
		t.Fatal(err)
	}
	r.api, err = gateway.NewAPI(gateway.APIOptions{
		Levels:      levels,
		RequestRate: 1 << 20, // they come as fast as they are answered
		Service:     other, Credentials: r.credentials, People: r.people, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
