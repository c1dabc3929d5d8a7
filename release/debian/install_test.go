//go:build linux

package debian

import (
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

var update = flag.Bool("update", false, "write the file list of docs/install.md anew")

// document has the file list.
const document = "../../docs/install.md"

// thePackage is the package for this machine, in the folder that DAVIT_DEB names; release/deb makes it.
func thePackage(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("DAVIT_DEB")
	if folder == "" {
		t.Skip("needs a package: release/deb 1.0 FOLDER, and then DAVIT_DEB=FOLDER")
	}
	architecture := map[string]string{"amd64": "amd64", "arm64": "arm64", "arm": "armhf"}[runtime.GOARCH]
	found, err := filepath.Glob(filepath.Join(folder, "davit_*_"+architecture+".deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s has %d packages for %s, want one (%v)", folder, len(found), architecture, err)
	}
	return found[0]
}

// TestInstalledAndRemoved installs an older package on a machine of its own, upgrades it, removes and purges it.
func TestInstalledAndRemoved(t *testing.T) {
	deb := thePackage(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can install a package")
	}
	const serveYAML = "/etc/davit/serve.yaml"
	older := repack(t, deb, "0~older", serveYAML, []byte("# The file of an older version.\ndata: /var/lib/davit\n"))
	m := newMachine(t)
	before := m.files()

	m.dpkg("--install", older)
	uid, gid := m.davitUser()
	m.checkOwners(uid, gid)
	changed := []byte("# Changed.\ndata: /var/lib/davit\nlog-level: debug\n")
	m.must(os.WriteFile(m.path(serveYAML), changed, 0)) // the file is there and keeps owner and mode
	m.must(os.WriteFile(m.path("/var/lib/davit/davit.db"), []byte("records"), 0o600))
	if out, err := m.run(0, 0, "/usr/bin/systemctl", "enable", "davit.service", "davit-bridge.service"); err != nil {
		t.Fatalf("systemctl enable: %v\n%s", err, out)
	}

	m.dpkg("--install", deb)
	m.checkOwners(uid, gid)
	if b, err := os.ReadFile(m.path(serveYAML)); err != nil || string(b) != string(changed) {
		t.Errorf("after the upgrade %s is %q (%v)", serveYAML, b, err)
	}
	m.checkProgram(uid, gid)

	if out := m.dpkg("--remove", "davit"); !strings.Contains(out, "stays; purge deletes it") {
		t.Errorf("removal does not say that data stays:\n%s", out)
	}
	for _, name := range []string{"/var/lib/davit/davit.db", serveYAML} {
		if _, err := os.Stat(m.path(name)); err != nil {
			t.Errorf("removed: %v", err)
		}
	}
	if out := m.dpkg("--purge", "davit"); !strings.Contains(out, "deleting the data in /var/lib/davit\n") {
		t.Errorf("purge does not say what it deletes:\n%s", out)
	}
	for name, info := range m.files() {
		if before[name] == nil && name != "/etc/systemd/system/multi-user.target.wants" {
			t.Errorf("purged, and there is still %s %s", info.Mode(), name)
		}
	}
}

// davitUser is the user that the installation has made.
func (m machine) davitUser() (uid, gid uint32) {
	m.t.Helper()
	b, err := os.ReadFile(m.path("etc/passwd"))
	m.must(err)
	found := regexp.MustCompile(`(?m)^davit:[^:]*:(\d+):(\d+):`).FindSubmatch(b)
	if found == nil {
		m.t.Fatalf("there is no user davit:\n%s", b)
	}
	u, err := strconv.ParseUint(string(found[1]), 10, 32)
	m.must(err)
	g, err := strconv.ParseUint(string(found[2]), 10, 32)
	m.must(err)
	if u == 0 || u >= 1000 {
		m.t.Errorf("the user davit has the number %d, which is no system user's", u)
	}
	return uint32(u), uint32(g)
}

// checkOwners holds what may be read by davit only, and what only it may write.
func (m machine) checkOwners(uid, gid uint32) {
	m.t.Helper()
	for name, want := range map[string]struct {
		mode     fs.FileMode
		uid, gid uint32
	}{
		"/etc/davit":                                  {fs.ModeDir | 0o750, 0, gid},
		"/etc/davit/serve.yaml":                       {0o640, 0, gid},
		"/etc/davit/bridge.yaml":                      {0o640, 0, gid},
		"/var/lib/davit":                              {fs.ModeDir | 0o700, uid, gid},
		"/var/lib/davit-bridge":                       {fs.ModeDir | 0o700, uid, gid},
		"/usr/bin/davit":                              {0o755, 0, 0},
		"/usr/lib/systemd/system/davit.service":       {0o644, 0, 0},
		"/usr/lib/udev/rules.d/70-davit-serial.rules": {0o644, 0, 0},
	} {
		info, err := os.Lstat(m.path(name))
		if err != nil {
			m.t.Error(err)
			continue
		}
		s := info.Sys().(*syscall.Stat_t)
		if info.Mode() != want.mode || s.Uid != want.uid || s.Gid != want.gid {
			m.t.Errorf("%s is %s of %d:%d, want %s of %d:%d", name, info.Mode(), s.Uid, s.Gid, want.mode, want.uid, want.gid)
		}
	}
}

// checkProgram runs the program as the service's user, who may read the configuration, and as somebody else.
func (m machine) checkProgram(uid, gid uint32) {
	m.t.Helper()
	if out, err := m.run(uid, gid, "/usr/bin/davit", "version"); err != nil || !strings.Contains(out, version(m.t)) {
		m.t.Errorf("davit version (%v):\n%s", err, out)
	}
	for _, file := range []string{"serve", "bridge"} {
		if out, err := m.run(uid, gid, "/usr/bin/davit", "config", "check", "--for", file, "/etc/davit/"+file+".yaml"); err != nil {
			m.t.Errorf("davit config check %s: %v\n%s", file, err, out)
		}
		if out, err := m.run(65534, 65534, "/usr/bin/davit", "config", "check", "--for", file, "/etc/davit/"+file+".yaml"); err == nil {
			m.t.Errorf("anybody reads /etc/davit/%s.yaml:\n%s", file, out)
		}
	}
}

// version is that of the package.
func version(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("dpkg-deb", "--field", thePackage(t), "Version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// TestCompletionsLoad has bash complete a command line by the package's file, and the other shells read theirs.
func TestCompletionsLoad(t *testing.T) {
	folder := t.TempDir()
	if out, err := exec.Command("dpkg-deb", "--extract", thePackage(t), folder).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const framework = "/usr/share/bash-completion/bash_completion"
	if _, err := os.Stat(framework); err != nil {
		t.Fatalf("%v: apt-get install bash-completion", err)
	}
	cmd := exec.Command("bash", "--norc", "-c", `
		# compopt says that nobody has pressed a key, which is so
		source `+framework+`
		source "$1/usr/share/bash-completion/completions/davit"
		complete -p davit >/dev/null
		COMP_WORDS=(davit config pr) COMP_CWORD=2 COMP_LINE='davit config pr' COMP_POINT=15 COMP_TYPE=9 COMP_KEY=9
		__start_davit
		echo "${COMPREPLY[@]}"`, "bash", folder)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(folder, "usr/bin")+":"+os.Getenv("PATH"))
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != "print" {
		t.Errorf("bash completes davit config pr to %q (%v)", out, err)
	}
	for shell, file := range map[string]string{"zsh": "usr/share/zsh/vendor-completions/_davit", "fish": "usr/share/fish/vendor_completions.d/davit.fish"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("%s is not installed, so its completion is not read", shell)
			continue
		}
		if out, err := exec.Command(path, "-n", filepath.Join(folder, file)).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
}

// TestFileList holds the file list of docs/install.md against the package: owner, mode and name of each file. Of the
// folders with many of a kind it says only that they are there.
func TestFileList(t *testing.T) {
	out, err := exec.Command("dpkg-deb", "--contents", thePackage(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	many := regexp.MustCompile(`^/usr/share/(man/man1|doc/davit/examples|doc/davit)/`)
	lines := []string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		name := strings.TrimPrefix(f[5], ".")
		if strings.HasSuffix(name, "/") {
			continue
		}
		if folder := many.FindString(name); folder != "" {
			name = folder + "*"
		}
		if entry := f[0] + " " + f[1] + " " + name; !slices.Contains(lines, entry) {
			lines = append(lines, entry)
		}
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[strings.Index(a, " /"):], b[strings.Index(b, " /"):]) })
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- files -->\n", "<!-- end of files -->\n"
	head, rest, ok := strings.Cut(string(b), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the file list between %q and %q", document, begin, end)
	}
	want := head + begin + "\n```text\n" + strings.Join(lines, "\n") + "\n```\n\n" + end + tail
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(b) != want {
		t.Errorf("the file list of %s is stale: go test ./release/debian -run FileList -update (with DAVIT_DEB). The package has\n%s", document, strings.Join(lines, "\n"))
	}
}
