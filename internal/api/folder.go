package api

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxSocketPath is the longest path of a socket that every system takes: 104 bytes with the closing zero on BSD and
// macOS, 108 on Linux.
const maxSocketPath = 103

// Folder returns where the control sockets of this user are. It is usher in $XDG_RUNTIME_DIR, if that is a folder of
// this user with a short enough path, else usher-UID in the folder for temporary files. It need not exist.
func Folder() string {
	if runtime := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(runtime) {
		folder := filepath.Join(runtime, "usher")
		info, err := os.Stat(runtime)
		if err == nil && info.IsDir() && isOurs(info) && FitsSocket(filepath.Join(folder, "4194304.sock")) {
			return folder
		}
	}
	return filepath.Join(os.TempDir(), temporaryName())
}

// FitsSocket reports whether a unix socket can have the path.
func FitsSocket(path string) bool { return len(path) <= maxSocketPath }

// MakeFolder makes a folder for control sockets, unless it exists, and checks it.
func MakeFolder(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !os.IsExist(err) {
		return fmt.Errorf("make the folder of control sockets: %w", err)
	}
	return checkFolder(path)
}

// checkFolder refuses a folder in which another user could plant a socket. The path of the folder for temporary files
// is known to everybody, so that another user may have made it first.
func checkFolder(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link, which may lead to another user's sockets: remove it", path)
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder: remove it", path)
	case !isOurs(info):
		return fmt.Errorf("the folder %s belongs to another user: set XDG_RUNTIME_DIR to a folder of yours", path)
	case isWritableByOthers(info):
		return fmt.Errorf("others can write to the folder %s: chmod 700 %s", path, path)
	}
	return nil
}
