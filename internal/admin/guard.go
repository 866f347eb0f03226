package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strings"

	"usher/internal/config"
)

// maxToken bounds the file of a token, in bytes.
const maxToken = 4 << 10

// Guard stands before the handler on an admin address, which every program of this machine reaches, and with it every
// page in a browser. It refuses requests with the Host of another site, whose name leads here (DNS rebinding), and those
// that a page of another site makes. Changes need the token of a file.
type Guard struct {
	next      http.Handler
	host      string // the name of the address; empty: it is an IP address, or all
	isLocal   bool   // the address is one of the loopback interface
	tokenFile string // empty: nothing can be changed
}

// NewGuard returns a guard of an admin address. tokenFile may be empty.
func NewGuard(next http.Handler, at config.Addr, tokenFile string) *Guard {
	return &Guard{next, at.Name, at.IP.IsLoopback() || isLocalhost(at.Name), tokenFile}
}

// CheckToken returns why nobody could make changes with the token of a file.
func CheckToken(file string) error {
	_, err := readToken(file)
	return err
}

// ServeHTTP passes a request on, or refuses it.
func (g *Guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := g.check(r); err != nil {
		if statusOf(err) == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		writeError(w, err)
		return
	}
	need := "token"
	if g.tokenFile == "" {
		need = "none"
	}
	g.next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), changesKey{}, need)))
}

func (g *Guard) check(r *http.Request) error {
	if !g.isOurHost(r) {
		return forbidden("the Host %.100q is not this address: ask by an IP address, localhost, or the name in --admin", r.Host)
	}
	if origin := r.Header.Values("Origin"); len(origin) > 0 && !isSameOrigin(origin, r.Host) {
		return forbidden("a page of %.100q may not ask usher", strings.Join(origin, ", "))
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return checkFetch(r.Header)
	}
	return g.checkToken(r)
}

// isOurHost reports whether a client that knows where it is going sends the Host of the request. A browser always sends
// one; some programs that check health send none. A name that leads here by DNS is not enough: its owner may be anybody.
func (g *Guard) isOurHost(r *http.Request) bool {
	if r.Host == "" {
		return true
	}
	host := hostname(r.Host)
	if isLocalhost(host) || g.host != "" && strings.EqualFold(host, g.host) {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return false
	}
	// On an address that others reach, a port mapping may lead here by another one.
	return ip.Unmap().IsLoopback() || !g.isLocal && !ip.IsUnspecified()
}

// hostname returns the host of HOST or HOST:PORT.
func hostname(hostPort string) string {
	if host, _, err := net.SplitHostPort(hostPort); err == nil {
		return host
	}
	return hostPort
}

func isLocalhost(name string) bool {
	return strings.EqualFold(strings.TrimSuffix(name, "."), "localhost")
}

// isSameOrigin reports whether the page that makes a request came from here. The scheme is http: there is no other.
func isSameOrigin(origin []string, host string) bool {
	if len(origin) != 1 {
		return false
	}
	u, err := url.Parse(origin[0])
	return err == nil && u.Scheme == "http" && u.Host != "" && strings.EqualFold(u.Host, host)
}

// checkFetch refuses what a page of another site loads as an image, a script or a frame, for which browsers send no
// Origin. A link may lead here: a browser then shows the answer, and its policy keeps it out of frames.
func checkFetch(h http.Header) error {
	site, isLink := h.Get("Sec-Fetch-Site"), h.Get("Sec-Fetch-Mode") == "navigate" && h.Get("Sec-Fetch-Dest") == "document"
	if (site == "cross-site" || site == "same-site") && !isLink {
		return forbidden("a page of another site may not ask usher")
	}
	return nil
}

// checkToken refuses a change without the token. The file is read each time, so that a new token needs no reload.
func (g *Guard) checkToken(r *http.Request) error {
	if g.tokenFile == "" {
		return forbidden("this address is for reading: changes need --admin-token-file, or the control socket")
	}
	want, err := readToken(g.tokenFile)
	if err != nil {
		return forbidden("%v", err)
	}
	scheme, given, found := strings.Cut(r.Header.Get("Authorization"), " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return &statusError{http.StatusUnauthorized, "changes need the token: Authorization: Bearer TOKEN"}
	}
	// The sums have one length, so that the comparison does not tell that of the token.
	a, b := sha256.Sum256(want), sha256.Sum256([]byte(strings.TrimSpace(given)))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return &statusError{http.StatusUnauthorized, "the token is wrong"}
	}
	return nil
}

// readToken returns the token in a file, without the white space around it.
func readToken(path string) ([]byte, error) {
	info, err := os.Stat(path) // before the open, which waits at a fifo
	switch {
	case err != nil:
		return nil, fmt.Errorf("admin-token-file %s: %w", path, reason(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("admin-token-file %s: it is not a regular file", path)
	case info.Mode().Perm()&0o006 != 0 && runtime.GOOS != "windows":
		return nil, fmt.Errorf("admin-token-file %s: every user can read or change it: chmod 600 %s", path, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("admin-token-file %s: %w", path, reason(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	token := bytes.TrimSpace(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("admin-token-file %s: %w", path, reason(err))
	case len(text) > maxToken:
		return nil, fmt.Errorf("admin-token-file %s: it is longer than %d bytes", path, maxToken)
	case len(token) == 0:
		return nil, fmt.Errorf("admin-token-file %s: it is empty", path)
	}
	return token, nil
}

func forbidden(format string, args ...any) error {
	return &statusError{http.StatusForbidden, fmt.Sprintf(format, args...)}
}
