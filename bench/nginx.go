package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// nginx is the web server to compare with.
type nginx struct {
	*process
	addr string
}

// imagePath is where nginx serves the image.
const imagePath = "/image.bin"

// startNginx runs nginx as it serves files best: sendfile, the open file kept, no log,
// a worker for each processor, connections kept alive.
func startNginx(dir string, image []byte) (*nginx, error) {
	path, err := program("nginx", "nginx-light")
	if err != nil {
		return nil, err
	}
	dir, err = os.MkdirTemp(dir, "nginx-")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, imagePath), image, 0o644); err != nil {
		return nil, err
	}
	addr, _, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`user root;
daemon off;
worker_processes auto;
pid %[1]s/nginx.pid;
error_log stderr error;
events { worker_connections 20000; multi_accept on; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 600s;
  keepalive_requests 1000000;
  open_file_cache max=16 inactive=600s;
  open_file_cache_valid 600s;
  default_type application/octet-stream;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  server { listen %[2]s backlog=4096; root %[1]s; }
}
`, dir, addr)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	// nginx warns about its compiled-in error log before it has read the configuration, unless -e names another.
	p, err := startProcess("nginx", exec.Command(path, "-e", "stderr", "-p", dir, "-c", conf), nil)
	if err != nil {
		return nil, err
	}
	return &nginx{p, addr}, p.listening(addr)
}
