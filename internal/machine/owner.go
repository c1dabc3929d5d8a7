package machine

import (
	"fmt"
	"io/fs"
	"os/user"
	"syscall"
)

// Owner is the number of the user whose a file is, -1 if the system does not say.
func Owner(info fs.FileInfo) int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}

// UserName is a user's name, or "user" and the number if there is none.
func UserName(uid int) string {
	if u, err := user.LookupId(fmt.Sprint(uid)); err == nil {
		return u.Username
	}
	return fmt.Sprintf("user %d", uid)
}
