package health

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// HTTPOptions say what an HTTP check requests and which answers are good.
type HTTPOptions struct {
	Method string        // empty: GET. Not CONNECT
	Host   string        // Host header, with or without a port; empty: the target's address, "localhost" for a unix socket
	Path   string        // with query, escaped as in the request; empty: /
	Status []StatusRange // any of them is good; none: 200-399
	Expect string        // must be in the first 64 KiB of the body; empty: the body is not read
	TLS    *TLS          // nil: cleartext
}

// StatusRange is a range of HTTP status codes, including both ends.
type StatusRange struct{ First, Last int }

// ParseStatusRange parses a status code or range, such as 204 or 200-399.
func ParseStatusRange(word string) (StatusRange, error) {
	first, last, isRange := strings.Cut(word, "-")
	if !isRange {
		last = first
	}
	from, err1 := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	r := StatusRange{from, to}
	if err1 != nil || err2 != nil || len(first) != 3 || len(last) != 3 || r.validate() != nil {
		return StatusRange{}, fmt.Errorf("%.40q is no status code or range, as in 200 or 200-399", word)
	}
	return r, nil
}

// String returns what [ParseStatusRange] parses.
func (r StatusRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

func (r StatusRange) validate() error {
	if r.First < 200 || r.Last > 599 || r.First > r.Last {
		return fmt.Errorf("status %s is not within 200-599", r)
	}
	return nil
}

// HTTP checks that a target answers a request of HTTP/1.1 with a good status and, if
// expected, a text in the body. Make one with [NewHTTP].
//
// Each check is a new connection straight to the target. It uses no proxy of the
// environment and no cookies, and does not follow redirects.
type HTTP struct {
	method, host, expect string
	url                  url.URL
	status               []StatusRange
	tls                  *TLS
}

// NewHTTP returns a check. The error names the invalid option.
func NewHTTP(o HTTPOptions) (*HTTP, error) {
	c := &HTTP{method: o.Method, host: o.Host, expect: o.Expect, status: slices.Clone(o.Status), tls: o.TLS}
	if c.method == "" {
		c.method = http.MethodGet
	}
	if len(c.status) == 0 {
		c.status = []StatusRange{{200, 399}}
	}
	if strings.Trim(c.method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_") != "" || c.method == http.MethodConnect {
		return nil, fmt.Errorf("http method %.40q cannot be used for a check", o.Method)
	}
	if err := validateAuthority(o.Host); err != nil {
		return nil, fmt.Errorf("http host: %w", err)
	}
	for _, r := range c.status {
		if err := r.validate(); err != nil {
			return nil, fmt.Errorf("http: %w", err)
		}
	}
	if len(o.Expect) > maxText {
		return nil, fmt.Errorf("http expect has %d bytes, more than the %d of the body that are searched", len(o.Expect), maxText)
	}
	if o.Expect != "" && c.method == http.MethodHead {
		return nil, errors.New("http expect has no effect on HEAD, whose replies have no body")
	}
	path := o.Path
	if path == "" {
		path = "/"
	}
	if err := validatePath(path); err != nil {
		return nil, fmt.Errorf("http path %.80q: %w", o.Path, err)
	}
	// An opaque path goes into the request line without another escaping. With two
	// slashes at its beginning it would read as a host there.
	c.url = url.URL{Opaque: path}
	if strings.HasPrefix(path, "//") {
		parsed, err := url.ParseRequestURI(path)
		if err != nil {
			return nil, fmt.Errorf("http path %.80q: %w", o.Path, err)
		}
		c.url = *parsed
	}
	return c, nil
}

func validatePath(path string) error {
	if path[0] != '/' {
		return errors.New("it does not begin with /")
	}
	for _, c := range []byte(path) {
		switch {
		case c == '#':
			return errors.New("# is not sent to a server: escape it as %23")
		case c <= ' ' || c >= 0x7f:
			return fmt.Errorf("byte %q must be escaped, as %%%02X", c, c)
		}
	}
	if _, err := url.ParseRequestURI(path); err != nil {
		return errors.New("it has a bad % escape")
	}
	return nil
}

// maxInterim is how many interim replies (1xx) may precede the reply.
const maxInterim = 8

// Check makes one request and reads of the reply what it needs to decide.
func (c *HTTP) Check(ctx context.Context, t Target) error {
	name := hostname(c.host)
	if c.host == "" {
		name = t.host()
	}
	return withConn(ctx, t, c.tls, name, []string{"http/1.1"}, func(conn net.Conn) error {
		request := c.request(t)
		if err := request.Write(conn); err != nil {
			return err
		}
		reader := &errorReader{from: conn}
		reply, err := readReply(bufio.NewReader(reader), request)
		if err != nil {
			return cmp.Or(reader.err, err)
		}
		return c.evaluate(reply)
	})
}

func (c *HTTP) request(t Target) *http.Request {
	host := c.host
	if host == "" {
		host = t.authority()
	}
	address := c.url
	return &http.Request{
		Method: c.method, URL: &address, Host: host,
		Header: http.Header{"User-Agent": {userAgent}, "Accept": {"*/*"}},
		Close:  true,
	}
}

// userAgent identifies the requests in a server's log.
const userAgent = "usher-health"

// readReply skips interim replies. Nobody closes the body: it holds no resources, and
// Close would read it to its end.
func readReply(from *bufio.Reader, request *http.Request) (*http.Response, error) {
	for range maxInterim + 1 {
		reply, err := http.ReadResponse(from, request)
		if err != nil {
			return nil, err
		}
		if reply.ProtoMajor != 1 {
			return nil, fmt.Errorf("reply of %s to a request of HTTP/1.1", reply.Proto)
		}
		if code := reply.StatusCode; code >= 200 || code == http.StatusSwitchingProtocols {
			return reply, nil
		}
	}
	return nil, fmt.Errorf("more than %d interim replies", maxInterim)
}

// errorReader keeps the error that ended reading. Parsers report what they miss instead.
type errorReader struct {
	from io.Reader
	err  error
}

func (r *errorReader) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	r.err = cmp.Or(r.err, err)
	return n, err
}

func (c *HTTP) evaluate(reply *http.Response) error {
	code := reply.StatusCode
	if !slices.ContainsFunc(c.status, func(r StatusRange) bool { return r.First <= code && code <= r.Last }) {
		return fmt.Errorf("status %d %s, want %s", code, http.StatusText(code), c.statusText())
	}
	if c.expect == "" {
		return nil
	}
	body := textFinder{from: reply.Body}
	if err := body.find([]string{c.expect}, false); err != nil {
		if errors.Is(err, errClosed) || errors.Is(err, errCutShort) {
			return fmt.Errorf("status %d, but the body lacks %s: %s", code, excerpt([]byte(c.expect)), excerpt(body.held))
		}
		return fmt.Errorf("status %d, no %s in the body: %w", code, excerpt([]byte(c.expect)), err)
	}
	return nil
}

func (c *HTTP) statusText() string {
	words := make([]string, len(c.status))
	for i, r := range c.status {
		words[i] = r.String()
	}
	return strings.Join(words, " or ")
}
