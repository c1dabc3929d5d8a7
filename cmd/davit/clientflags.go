package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"davit/internal/app"
	"davit/internal/client"
)

// The environment variables that stand in for flags.
const (
	envServer = "DAVIT_SERVER"
	envToken  = "DAVIT_TOKEN"
)

// defaultServer is where serve listens unless told otherwise.
const defaultServer = "http://127.0.0.1:8080"

// clientFlags say which service a command talks to, and as whom.
type clientFlags struct {
	server    string
	data      string
	tokenFile string
}

func (f *clientFlags) addTo(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.server, "server", "", "URL of the service (default $"+envServer+" or "+defaultServer+")")
	cmd.Flags().StringVar(&f.data, "data", "", "data folder of the service, to read its admin token from (default: the token in $"+envToken+")")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "file with the API token")
}

// url is the service's address; a bare HOST:PORT is taken as http.
func (f *clientFlags) url() string {
	url := f.server
	if url == "" {
		url = os.Getenv(envServer)
	}
	if url == "" {
		url = defaultServer
	}
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	return strings.TrimRight(url, "/")
}

// token finds the API token: what a flag names comes before the environment.
func (f *clientFlags) token() (string, error) {
	switch {
	case f.tokenFile != "":
		return readToken(f.tokenFile)
	case f.data != "":
		return readToken(app.TokenFile(f.data))
	case os.Getenv(envToken) != "":
		return os.Getenv(envToken), nil
	}
	return "", usagef("no API token: set %s, or give --token-file FILE, or --data DIR with the service's data folder", envToken)
}

func readToken(path string) (string, error) {
	token, err := app.ReadToken(path)
	if err != nil {
		return "", fmt.Errorf("read the API token: %w; is this the data folder of a service that has been started?", err)
	}
	return token, nil
}

// open returns a client of the service.
func (f *clientFlags) open() (*client.Client, error) {
	token, err := f.token()
	if err != nil {
		return nil, err
	}
	return client.New(f.url(), token)
}

// apiCommand builds a command that calls the service.
func (p *program) apiCommand(use, short string, args cobra.PositionalArgs, run func(cmd *cobra.Command, c *client.Client, args []string) error) *cobra.Command {
	var flags clientFlags
	cmd := p.command(use, short, args, func(cmd *cobra.Command, args []string) error {
		c, err := flags.open()
		if err != nil {
			return err
		}
		defer c.Close()
		return withAdvice(run(cmd, c, args))
	})
	flags.addTo(cmd)
	return cmd
}

// withAdvice adds what to do when nothing answers at the service's address.
func withAdvice(err error) error {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("%w; start it with: davit serve --data DIR, or name another service with --server URL or %s", err, envServer)
	}
	return err
}

// createCommand builds a command that creates something. The request carries
// an idempotency key, so that it may be repeated when its answer was lost.
func (p *program) createCommand(use, short string, args cobra.PositionalArgs, run func(cmd *cobra.Command, c *client.Client, args []string) error) *cobra.Command {
	var key string
	cmd := p.apiCommand(use, short, args, func(cmd *cobra.Command, c *client.Client, args []string) error {
		if key == "" {
			key = rand.Text()
		}
		cmd.SetContext(client.WithIdempotencyKey(cmd.Context(), key))
		return run(cmd, c, args)
	})
	cmd.Flags().StringVar(&key, "idempotency-key", "", "repeating the command with the same key creates nothing twice (default: a new key each time)")
	return cmd
}
