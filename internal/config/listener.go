package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// SocketFile describes the file of a unix listener.
type SocketFile struct {
	Mode        fs.FileMode // its permissions; 0: by the umask
	User, Group string      // its owners, by name or number; empty: those of the process
}

// socketOptions are those that may follow the path of a unix listener.
var socketOptions = []string{"mode", "user", "group"}

// String returns the options as they follow a path.
func (f SocketFile) String() string {
	var b strings.Builder
	if f.Mode != 0 {
		fmt.Fprintf(&b, ",mode=%o", f.Mode)
	}
	if f.User != "" {
		b.WriteString(",user=" + f.User)
	}
	if f.Group != "" {
		b.WriteString(",group=" + f.Group)
	}
	return b.String()
}

// ParseListener reads an address word, of a unix socket with its options. The error is an *Error.
func ParseListener(word string) (Addr, error) {
	a, err := parseListener(word)
	if err == nil {
		err = a.checkListener()
	}
	if err != nil {
		return Addr{}, &Error{Field: "listen", Value: word, cause: err}
	}
	return a, nil
}

func parseListener(word string) (Addr, error) {
	if !strings.HasPrefix(word, "unix:") {
		return parseAddr(word, TCP)
	}
	bare, options := cutSocketOptions(word)
	a, err := parseAddr(bare, TCP)
	if err != nil {
		return Addr{}, err
	}
	if len(options) > 0 && isAbstract(a.Path) {
		return Addr{}, fmt.Errorf("%s has no file, and so no %s", a, strings.Join(socketOptions, ", "))
	}
	if len(options) == 0 {
		return a, nil
	}
	err = setEach(strings.Join(options, ","), "option",
		setter{key: "mode", set: into(&a.File.Mode, parseMode)},
		setter{key: "user", set: into(&a.File.User, parseOwner)},
		setter{key: "group", set: into(&a.File.Group, parseOwner)})
	return a, err
}

// checkListener refuses an address that cannot be listened on.
func (a Addr) checkListener() error {
	if err := a.check(); err != nil {
		return err
	}
	before, last, _ := cutLast(a.Path, ',')
	switch {
	case a.SRV:
		return fmt.Errorf("%q says where backends are, not where to listen", a)
	case a.Network != Unix && !a.HasPort():
		return fmt.Errorf("%q needs a port to listen on", a)
	case a.Network == Unix && !isAbstract(a.Path) && before != "" && isMode(last):
		return fmt.Errorf("unix://%s: the option %s lacks its name (did you mean unix://%[1]s,mode=%[2]s?)", before, last)
	}
	return nil
}

// cutLast is strings.Cut at the last of the separators.
func cutLast(s string, at byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, at)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// parseMode reads the permissions of a file.
func parseMode(word string) (fs.FileMode, error) {
	mode, err := strconv.ParseUint(word, 8, 32)
	if err != nil || mode == 0 || mode > 0o777 {
		return 0, fmt.Errorf("%q is not a mode such as 660", word)
	}
	return fs.FileMode(mode), nil
}

// isMode reports whether a word is a mode in its usual form.
func isMode(word string) bool {
	_, err := parseMode(word)
	return err == nil && (len(word) == 3 || len(word) == 4)
}

func parseOwner(word string) (string, error) {
	if strings.Trim(word, nameLetters+".") != "" || word == "" {
		return "", fmt.Errorf("%q is neither a name nor a number", word)
	}
	return word, nil
}

// cutSocketOptions splits the word of a unix listener from the options behind it. The commas of a path belong to the
// path, unless NAME=VALUE follows them.
func cutSocketOptions(word string) (addr string, options []string) {
	for {
		before, last, found := cutLast(word, ',')
		if !found || !isOption(last) {
			return word, options
		}
		options = slices.Insert(options, 0, last)
		word = before
	}
}

// isOption reports whether a word is NAME=VALUE, whatever the name.
func isOption(word string) bool {
	name, _, valued := strings.Cut(word, "=")
	return valued && name != "" && strings.Trim(name, nameLetters) == ""
}

// checkPath checks the path of a unix socket, or @NAME of one in the abstract namespace of Linux; see unix(7).
func checkPath(word string) error {
	switch {
	case strings.IndexFunc(word, func(r rune) bool { return r < ' ' }) >= 0:
		return fmt.Errorf("the path %q holds a control character", word)
	case word == "@":
		return errors.New("an abstract socket needs a name, as in unix:@app")
	case isAbstract(word) && runtime.GOOS != "linux":
		return fmt.Errorf("abstract sockets such as %q exist on Linux alone: give a path, as in unix:///run/app.sock", word)
	case !isAbstract(word) && !strings.HasPrefix(word, "/"):
		return fmt.Errorf("the path of a unix socket must be absolute, as in unix:///run/app.sock, not %q", word)
	}
	return nil
}

func isAbstract(path string) bool { return strings.HasPrefix(path, "@") }

// cleanPath returns the canonical form of the path of a unix socket.
func cleanPath(p string) string {
	if isAbstract(p) {
		return p
	}
	return path.Clean(p)
}
