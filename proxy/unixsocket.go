package proxy

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"usher/proxy/socketfile"
)

// socketFile is the file of a unix listener of ours. It is zero for other listeners, and for an abstract name.
type socketFile struct {
	socketfile.File
	path string
}

// isAbstract reports whether a path is a name in the abstract namespace.
func isAbstract(path string) bool { return strings.HasPrefix(path, "@") }

// bindSocketFile has bind make the socket file of a unix listener, and gives it its mode and owners. After an error the
// file is gone; what bind has opened is the caller's. An abstract name has no file: the kernel frees it.
func bindSocketFile(l Listener, bind func() error) (socketFile, error) {
	if isAbstract(l.Path) {
		return socketFile{}, bind()
	}
	owner, err := ownerOf(l)
	if err != nil {
		return socketFile{}, fmt.Errorf("listen unix %s: %w", l.Path, err)
	}
	var notBound error // which names the listener
	file, err := socketfile.Bind(l.Path, func() error {
		if notBound = bind(); notBound != nil {
			return notBound
		}
		err := owner.take(l)
		if err != nil {
			_ = os.Remove(l.Path)
		}
		return err
	})
	if err != nil && err != notBound {
		err = fmt.Errorf("listen unix %s: %w", l.Path, err)
	}
	if err != nil {
		return socketFile{}, err
	}
	return socketFile{file, l.Path}, nil
}

// owner is a user and a group by number; -1 leaves it as it is.
type owner struct{ user, group int }

// ownerOf looks the names of the file's owners up.
func ownerOf(l Listener) (o owner, err error) {
	id := func(name string, lookup func(string) (string, error)) int {
		if name == "" || err != nil {
			return -1
		}
		n, failed := strconv.Atoi(name)
		if failed != nil {
			var text string
			if text, err = lookup(name); err == nil {
				n, err = strconv.Atoi(text) // not one on Windows
			}
		}
		return n
	}
	o.user = id(l.User, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	o.group = id(l.Group, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	return o, err
}

// take gives the file to its owners, and only then opens it to others than the process's user.
func (o owner) take(l Listener) error {
	if o.user >= 0 || o.group >= 0 {
		if err := os.Lchown(l.Path, o.user, o.group); err != nil {
			return err
		}
	}
	if l.Mode != 0 {
		return os.Chmod(l.Path, l.Mode)
	}
	return nil
}

// change gives the file the mode and the owners of a listener on it. The function takes
// that back, as far as it can be.
func (f socketFile) change(l Listener) (undo func(), err error) {
	now, err := os.Lstat(f.path)
	if err != nil {
		return nil, fmt.Errorf("listen unix %s: %w", f.path, err)
	}
	owner, err := ownerOf(l)
	if err != nil {
		return nil, fmt.Errorf("listen unix %s: %w", f.path, err)
	}
	undo = func() {
		before := fileOwner(now)
		_ = os.Lchown(f.path, before.user, before.group)
		_ = os.Chmod(f.path, now.Mode().Perm())
	}
	if err := owner.take(l); err != nil {
		undo()
		return nil, fmt.Errorf("listen unix %s: %w", f.path, err)
	}
	return undo, nil
}

// isThere reports whether clients find the socket: its file may have been removed, or replaced.
func (f socketFile) isThere() bool { return f.path == "" || f.IsThere() }
