package app

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
)

// listenPprof opens the listener of profiles, if there is to be one.
func (s *Server) listenPprof(addr string) error {
	if addr == "" {
		return nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for profiles: %w", err)
	}
	s.profiles = ln
	s.cleanup.add("listener of profiles", closeOnce(ln))
	s.addrs.Pprof = ln.Addr().String()
	return nil
}

// profileHandler serves what net/http/pprof has, without a password: its listener is on
// loopback.
func profileHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
