package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"davit/internal/durable"
	"davit/internal/machine"
)

// named is a file that a setting names.
type named struct {
	setting, path string
	secret        bool // nobody but its owner may read it
}

// files checks that the files are there, are files, can be read, and that secrets are.
func files(all []named) []Finding {
	var found []Finding
	n := 0
	for _, f := range all {
		if f.path == "" {
			continue
		}
		n++
		if bad, ok := f.look(); !ok {
			found = append(found, bad)
		}
	}
	if n == 0 {
		return []Finding{good("no files are named beside the data folder")}
	}
	return orGood(found, "%s named, there and readable; secrets are their owner's alone", count(n, "file"))
}

func (f named) look() (Finding, bool) {
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failed(fmt.Sprintf("%s names %s, which does not exist", f.setting, f.path), "correct the name, or put the file there"), false
	case err != nil:
		return failed(fmt.Sprintf("%s: %v", f.setting, err), "let "+me()+" go through the folders above it"), false
	case !info.Mode().IsRegular():
		return failed(fmt.Sprintf("%s names %s, which is no file but a %s", f.setting, f.path, kind(info.Mode())), "name a file"), false
	}
	file, err := os.Open(f.path)
	if err != nil {
		return failed(fmt.Sprintf("%s: %s cannot be read by %s: it belongs to %s with mode %04o", f.setting, f.path, me(), machine.UserName(machine.Owner(info)), info.Mode().Perm()),
			fmt.Sprintf("chown it to the user that davit runs as, or run davit as %s", machine.UserName(machine.Owner(info)))), false
	}
	_ = file.Close()
	if f.secret && info.Mode().Perm()&0o077 != 0 {
		return warning(fmt.Sprintf("%s holds a secret and others may read it: %s has mode %04o", f.setting, f.path, info.Mode().Perm()), "chmod 600 "+f.path), false
	}
	return Finding{}, true
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "folder"
	case m&fs.ModeDevice != 0:
		return "device"
	}
	return "pipe or socket"
}

// dataFolder checks a data folder: what is in the way of using it, and who else may look into it.
func dataFolder(dir string) []Finding {
	info, err := os.Stat(dir)
	to, noLink := os.Readlink(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && noLink == nil:
		return []Finding{failed(fmt.Sprintf("%s is a link to %s, which is not there", dir, to), "make that folder, or name another one with --data")}
	case errors.Is(err, fs.ErrNotExist):
		return toBeMade(dir)
	case err != nil:
		return []Finding{failed(fmt.Sprintf("the data folder %s cannot be looked at: %v", dir, err), "let "+me()+" go through the folders above it")}
	case !info.IsDir():
		return []Finding{failed(fmt.Sprintf("%s is no folder but a %s", dir, kindOrFile(info.Mode())), "name a folder with --data")}
	}
	var found []Finding
	owner := machine.Owner(info)
	if err := durable.Usable(dir); err != nil {
		if errors.Is(err, unix.EROFS) {
			return []Finding{failed(dir+" is on a file system that is mounted for reading only", "mount it for writing (dmesg says if the kernel did so after an error), or name a folder elsewhere")}
		}
		do := fmt.Sprintf("run davit as %s, or chown -R the folder to %s", machine.UserName(owner), me())
		if owner == os.Geteuid() {
			do = "chmod 700 " + dir
		}
		return []Finding{failed(fmt.Sprintf("%s may not write in %s: it belongs to %s with mode %04o", me(), dir, machine.UserName(owner), info.Mode().Perm()), do)}
	}
	if os.Geteuid() == 0 && owner > 0 {
		found = append(found, warning(fmt.Sprintf("this runs as root, and %s belongs to %s: root passes every permission, and files that it makes there %s cannot use", dir, machine.UserName(owner), machine.UserName(owner)),
			fmt.Sprintf("run davit and its doctor as %s (setpriv --reuid=%s ..., or the user of the unit)", machine.UserName(owner), machine.UserName(owner))))
	}
	if info.Mode().Perm()&0o077 != 0 {
		found = append(found, warning(fmt.Sprintf("others may look into %s: it has mode %04o and holds passwords", dir, info.Mode().Perm()), "chmod 700 "+dir))
	}
	found = append(found, inside(dir, owner)...)
	return orGood(found, "%s belongs to %s and to nobody else, and so do the files in it", dir, machine.UserName(owner))
}

func kindOrFile(m fs.FileMode) string {
	if m.IsRegular() {
		return "file"
	}
	return kind(m)
}

// toBeMade checks a data folder that is not there.
func toBeMade(dir string) []Finding {
	above := filepath.Dir(filepath.Clean(dir))
	for above != filepath.Dir(above) {
		if _, err := os.Stat(above); err == nil {
			break
		}
		above = filepath.Dir(above)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, above, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return []Finding{failed(fmt.Sprintf("%s does not exist, and %s may not make it in %s: %v", dir, me(), above, err), fmt.Sprintf("make it and give it to the user that davit runs as: install -d -m 700 -o USER %s", dir))}
	}
	return []Finding{good("%s does not exist yet; it is made at the first start", dir)}
}

// inside looks at the files of a data folder, those of its first level: that is where secrets are.
func inside(dir string, owner int) []Finding {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return []Finding{failed(fmt.Sprintf("%s cannot be listed: %v", dir, err), "chmod 700 "+dir)}
	}
	var open, foreign, barred []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() && !info.IsDir() {
			continue
		}
		if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			open = append(open, fmt.Sprintf("%s (%04o)", e.Name(), info.Mode().Perm()))
		}
		if machine.Owner(info) != owner {
			foreign = append(foreign, fmt.Sprintf("%s (%s)", e.Name(), machine.UserName(machine.Owner(info))))
			continue
		}
		barred = append(barred, closed(filepath.Join(dir, e.Name()), e.Name(), info)...)
	}
	var found []Finding
	if len(open) > 0 {
		found = append(found, warning(fmt.Sprintf("others may read files in %s: %s", dir, list(open)), fmt.Sprintf("chmod go= %s/*", dir)))
	}
	if len(foreign) > 0 {
		found = append(found, failed(fmt.Sprintf("files in %s belong to others than the folder, as when davit was run as another user: %s", dir, list(foreign)), fmt.Sprintf("chown -R %s %s", machine.UserName(owner), dir)))
	}
	if len(barred) > 0 {
		found = append(found, failed(fmt.Sprintf("%s may not read and write all that is in %s: %s", me(), dir, list(barred)), "chmod -R u+rwX "+dir))
	}
	return found
}

// closed are what this user may not read and write: a file of a data folder, or a folder with those in it. Files in
// folders are written once, so being read is enough for them, and there may be many: they are left out.
func closed(path, name string, info fs.FileInfo) []string {
	bad := unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK|unix.W_OK, unix.AT_EACCESS)
	if info.IsDir() {
		bad = durable.Usable(path)
	}
	if bad != nil {
		return []string{fmt.Sprintf("%s (%04o)", name, info.Mode().Perm())}
	}
	if !info.IsDir() {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return []string{name}
	}
	var all []string
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.IsDir() {
			all = append(all, closed(filepath.Join(path, e.Name()), name+"/"+e.Name(), info)...)
		}
	}
	return all
}

// list is words for people, not more than can be read.
func list(words []string) string {
	const most = 6
	if len(words) > most {
		words = append(words[:most:most], fmt.Sprintf("and %d more", len(words)-most))
	}
	return strings.Join(words, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// me is the user that this runs as.
func me() string { return machine.UserName(os.Geteuid()) }
