package config

import (
	"cmp"
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

// ParseListener reads an address word with its options: of a unix socket those of its file, and which clients it takes.
// The error is an *Error.
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
	bare, options := cutListenOptions(word)
	a, err := parseAddr(bare, TCP)
	if err != nil || len(options) == 0 {
		return a, err
	}
	setters := []setter{
		{key: "sni", set: into(&a.ServerName, parseServerName)},
		{key: "alpn", set: into(&a.Protocol, parseProtocol)},
	}
	if a.Network != Unix {
		setters = append(setters, setter{key: "from", set: into(&a.From, parseFrom)})
	} else {
		setters = append([]setter{
			{key: "mode", set: into(&a.File.Mode, parseMode)},
			{key: "user", set: into(&a.File.User, parseOwner)},
			{key: "group", set: into(&a.File.Group, parseOwner)},
		}, setters...)
	}
	if err = setEach(strings.Join(options, ","), "option", setters...); err != nil {
		return a, err
	}
	if isAbstract(a.Path) && a.File != (SocketFile{}) {
		return Addr{}, fmt.Errorf("unix://%s has no file, and so no %s", a.Path, strings.Join(socketOptions, ", "))
	}
	return a, nil
}

// clientOptions are the options that say which clients the listener takes.
func (a Addr) clientOptions() string {
	options := ""
	if a.ServerName != "" {
		options = ",sni=" + a.ServerName
	}
	if a.Protocol != "" {
		options += ",alpn=" + a.Protocol
	}
	if a.From != "" {
		options += ",from=" + a.From
	}
	return options
}

// socket returns the address without its options.
func (a Addr) socket() Addr {
	a.ServerName, a.Protocol, a.From, a.File = "", "", "", SocketFile{}
	return a
}

// parseFrom reads prefixes and addresses of clients, with + between them.
func parseFrom(word string) (string, error) {
	all, err := parsePrefixes(strings.ReplaceAll(word, "+", ","))
	words := make([]string, len(all))
	for i, p := range all {
		words[i] = p.String()
	}
	if err == nil && len(all) == 0 {
		err = errors.New("all clients are those of a listener without the option (leave it out)")
	}
	return strings.Join(words, "+"), err
}

// parseServerName reads NAME, or *.NAME for all names below it.
func parseServerName(word string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(word, "."))
	return name, checkServerName(name)
}

func checkServerName(name string) error {
	suffix, isWildcard := strings.CutPrefix(name, "*.")
	switch {
	case name == "*":
		return errors.New("all names are those of a listener without the option (leave it out)")
	case strings.ContainsFunc(name, func(r rune) bool { return r > '~' }):
		return fmt.Errorf("%q is not ASCII: clients ask for the form that begins with xn--", name)
	case strings.HasPrefix(name, "*") && !isWildcard:
		return fmt.Errorf("%q: a wildcard is a whole label (did you mean %q?)", name, "*."+strings.TrimLeft(name, "*."))
	case strings.Contains(suffix, "*"):
		return fmt.Errorf("%q: a wildcard stands at the beginning, and once: it is for names of any depth", name)
	}
	ip, _, err := parseHost(suffix)
	if ip.IsValid() {
		return fmt.Errorf("%q: clients ask for names, not for addresses", name)
	}
	if err != nil || suffix != strings.ToLower(suffix) || strings.HasSuffix(suffix, ".") {
		return fmt.Errorf("%q is not a server name", name)
	}
	return nil
}

// parseProtocol reads the name of a protocol in ALPN, such as h2 or http/1.1.
func parseProtocol(word string) (string, error) { return word, checkProtocol(word) }

// maxProtocol bounds the name of a protocol (RFC 7301).
const maxProtocol = 255

func checkProtocol(name string) error {
	isBad := func(r rune) bool { return r <= ' ' || r > '~' || r == ',' || r == '=' }
	if name == "" || len(name) > maxProtocol || strings.ContainsFunc(name, isBad) {
		return fmt.Errorf("%.80q is not the name of a protocol, such as h2 or http/1.1", name)
	}
	return nil
}

// checkListener refuses an address that cannot be listened on.
func (a Addr) checkListener() error {
	if err := a.check(); err != nil {
		return err
	}
	if a.ServerName != "" {
		if err := checkServerName(a.ServerName); err != nil {
			return err
		}
	}
	if a.Protocol != "" {
		if err := checkProtocol(a.Protocol); err != nil {
			return err
		}
	}
	if a.From != "" {
		if from, err := parseFrom(a.From); err != nil || from != a.From {
			return cmp.Or(err, fmt.Errorf("from=%s is to be written from=%s", a.From, from))
		}
	}
	before, last, _ := cutLast(a.Path, ',')
	switch {
	case a.From != "" && a.Network == Unix:
		return fmt.Errorf("%q: clients of a unix socket have no address", a)
	case a.From != "" && a.ServerName+a.Protocol != "":
		return fmt.Errorf("%q: an address is shared by from, or by sni and alpn, and not by both", a)
	case a.Network == UDP && a.ServerName+a.Protocol != "":
		return fmt.Errorf("%q: only what begins with a ClientHello has sni or alpn, and datagrams do not", a)
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

// cutListenOptions splits the word of a listener from the options behind it. The commas of a path belong to the path,
// unless NAME=VALUE follows them.
func cutListenOptions(word string) (addr string, options []string) {
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
