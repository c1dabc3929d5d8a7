//go:build linux

package debian

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tools are what the package's scripts run, and what it depends on.
var tools = []string{"sh", "chmod", "chown", "rm", "systemctl", "systemd-sysusers", "systemd-tmpfiles"}

// machine is a folder with so much of a Debian system that packages can be installed in it.
type machine struct {
	t    *testing.T
	root string
}

// newMachine copies the tools of this machine, with their libraries, into a folder.
func newMachine(t *testing.T) machine {
	t.Helper()
	m := machine{t, t.TempDir()}
	for _, folder := range []string{"dev", "etc/systemd/system", "proc", "tmp", "usr/bin", "usr/lib", "var/lib/dpkg/info", "var/lib/dpkg/updates"} {
		m.must(os.MkdirAll(m.path(folder), 0o755))
	}
	m.must(os.Chmod(m.root, 0o755)) // the user davit passes through it
	for link, target := range map[string]string{"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib", "sbin": "usr/bin"} {
		m.must(os.Symlink(target, m.path(link)))
	}
	m.must(unix.Mknod(m.path("dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	m.must(os.Chmod(m.path("dev/null"), 0o666))
	for file, text := range map[string]string{"var/lib/dpkg/status": "", "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\ndialout:x:20:\n"} {
		m.must(os.WriteFile(m.path(file), []byte(text), 0o644))
	}
	library := regexp.MustCompile(`(?m)(/\S+) \(0x[0-9a-f]+\)$`)
	for _, tool := range tools {
		from, err := exec.LookPath(tool)
		m.must(err)
		m.copy(from, "usr/bin/"+tool)
		out, err := exec.Command("ldd", from).Output()
		m.must(err)
		for _, found := range library.FindAllSubmatch(out, -1) {
			// The path that the program names, or the loader finds, is in the folder of all libraries.
			name := string(found[1])
			m.copy(name, "usr/lib/"+filepath.Base(name))
		}
	}
	return m
}

func (m machine) path(name string) string { return filepath.Join(m.root, name) }

func (m machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) copy(from, to string) {
	m.t.Helper()
	b, err := os.ReadFile(from)
	m.must(err)
	m.must(os.WriteFile(m.path(to), b, 0o755))
}

// dpkg runs dpkg on the machine and returns what it says. What the package depends on is there, but not as packages.
func (m machine) dpkg(args ...string) string {
	m.t.Helper()
	// The scripts need /proc. It is mounted where only they see it, and goes with them.
	cmd := exec.Command("sh", append([]string{"-euc", `mount -t proc proc "$0/proc"; exec dpkg --root="$0" "$@"`, m.root,
		"--log=" + filepath.Join(m.t.TempDir(), "log"), "--force-depends", "--force-confdef", "--force-confold", "--no-triggers"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("dpkg %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// run runs a program of the machine as one of its users.
func (m machine) run(uid, gid uint32, command ...string) (string, error) {
	m.t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = []string{"PATH=/usr/bin"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root, Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// files are all files of the machine but dpkg's and the lists of users.
func (m machine) files() map[string]fs.FileInfo {
	m.t.Helper()
	all := map[string]fs.FileInfo{}
	m.must(filepath.WalkDir(m.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, m.root)
		if name == "/var/lib/dpkg" {
			return fs.SkipDir
		}
		if name == "" || regexp.MustCompile(`^/etc/(passwd|group|shadow|gshadow)-?$|^/etc/\.pwd\.lock$`).MatchString(name) {
			return nil
		}
		all[name], err = e.Info()
		return err
	}))
	return all
}

// repack makes another package of one: with an earlier version and a file of its own in the place of one that it has.
func repack(t *testing.T, deb, version, file string, text []byte) string {
	t.Helper()
	folder := t.TempDir()
	tree, old := filepath.Join(folder, "tree"), filepath.Join(folder, "old.deb")
	if out, err := exec.Command("dpkg-deb", "--raw-extract", deb, tree).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	control := filepath.Join(tree, "DEBIAN", "control")
	b, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	b = regexp.MustCompile(`(?m)^Version: .*$`).ReplaceAll(b, []byte("Version: "+version))
	for name, content := range map[string][]byte{control: b, filepath.Join(tree, file): bytes.Clone(text)} {
		if err := os.WriteFile(name, content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(control, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, old).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return old
}
