package app

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"davit/internal/durable"
)

// tokenName is the file of a service's data folder that holds the API's admin
// token.
const tokenName = "admin.token"

// TokenFile is where the service with the data folder dir keeps its admin
// token.
func TokenFile(dir string) string { return filepath.Join(dir, tokenName) }

// ReadToken reads a token from a file: one line, which must not be empty.
func ReadToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return "", fmt.Errorf("%s holds no token: it should be one line of text", path)
	}
	return token, nil
}

// adminToken returns the token of the data folder, which it makes at the first
// start, readable by the owner only.
func adminToken(dir string) (string, error) {
	path := TokenFile(dir)
	token, err := ReadToken(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return token, err
	}
	token = rand.Text()
	if err := durable.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the admin token: %w", err)
	}
	return token, nil
}
