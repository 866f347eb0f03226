package health_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"usher/health"
)

func TestNewHTTP(t *testing.T) {
	t.Parallel()
	status := func(ranges ...health.StatusRange) []health.StatusRange { return ranges }
	for _, tt := range []struct {
		name string
		o    health.HTTPOptions
		want []string
	}{
		{name: "nothing"},
		{name: "all", o: health.HTTPOptions{Method: "OPTIONS", Host: "[::1]:80", Path: "/a%20b?c=d&e", Status: status(health.StatusRange{200, 200}, health.StatusRange{500, 599}), Expect: "\x00"}},
		{name: "two slashes", o: health.HTTPOptions{Path: "//a"}},
		{name: "tunnel", o: health.HTTPOptions{Method: "CONNECT"}, want: []string{"method", "CONNECT"}},
		{name: "method", o: health.HTTPOptions{Method: "GET /"}, want: []string{"method", "GET /"}},
		{name: "host", o: health.HTTPOptions{Host: "a\r\nX: y"}, want: []string{"host", `a\r\nX: y`}},
		{name: "port", o: health.HTTPOptions{Host: "a:0"}, want: []string{"host", `"0" is no port`}},
		{name: "IPv6 without brackets", o: health.HTTPOptions{Host: "::1"}, want: []string{"host", `"::1"`}},
		{name: "relative", o: health.HTTPOptions{Path: "a"}, want: []string{"path", `"a"`, "begin with /"}},
		{name: "absolute", o: health.HTTPOptions{Path: "http://a/"}, want: []string{"path", "begin with /"}},
		{name: "space", o: health.HTTPOptions{Path: "/a b"}, want: []string{"path", "%20"}},
		{name: "injection", o: health.HTTPOptions{Path: "/a\r\nX:y"}, want: []string{"path", "%0D"}},
		{name: "letter", o: health.HTTPOptions{Path: "/é"}, want: []string{"path", "%C3"}},
		{name: "fragment", o: health.HTTPOptions{Path: "/a#b"}, want: []string{"path", "%23"}},
		{name: "escape", o: health.HTTPOptions{Path: "/a%zz"}, want: []string{"path", "escape"}},
		{name: "interim", o: health.HTTPOptions{Status: status(health.StatusRange{100, 200})}, want: []string{"status 100-200"}},
		{name: "beyond", o: health.HTTPOptions{Status: status(health.StatusRange{200, 600})}, want: []string{"status 200-600"}},
		{name: "backwards", o: health.HTTPOptions{Status: status(health.StatusRange{300, 200})}, want: []string{"status 300-200"}},
		{name: "no body", o: health.HTTPOptions{Method: "HEAD", Expect: "x"}, want: []string{"expect", "HEAD"}},
		{name: "giant", o: health.HTTPOptions{Expect: strings.Repeat("x", 70_000)}, want: []string{"expect", "70000"}},
	} {
		_, err := health.NewHTTP(tt.o)
		expectRefusal(t, tt.name, err, tt.want)
	}
}

func TestParseStatusRange(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]health.StatusRange{
		"200": {200, 200}, "204": {204, 204}, "200-399": {200, 399}, "500-599": {500, 599}, "404-404": {404, 404},
	} {
		got, err := health.ParseStatusRange(word)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", word, got, err)
		}
		if again, err := health.ParseStatusRange(got.String()); err != nil || again != got {
			t.Errorf("%s: %v, %v", got, again, err)
		}
	}
	for _, word := range []string{"", "-", "2", "20", "099", "100", "600", "200-", "-200", "399-200", "200-600", "2xx", "+20", "200-300-400", " 200"} {
		if r, err := health.ParseStatusRange(word); err == nil {
			t.Errorf("%q: %v, want an error", word, r)
		} else if word != "" && !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v does not name it", word, err)
		}
	}
}

// talk answers after the first empty line, and reads until the connection ends.
func talk(reply string) func(net.Conn) {
	return func(conn net.Conn) {
		var request []byte
		for b := make([]byte, 1024); !strings.Contains(string(request), "\r\n\r\n"); {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			request = append(request, b[:n]...)
		}
		if _, err := io.WriteString(conn, reply); err == nil {
			hear(conn)
		}
	}
}

// hangUp is talk that closes at once.
func hangUp(reply string) func(net.Conn) {
	return func(conn net.Conn) {
		if _, err := conn.Read(make([]byte, 4096)); err == nil {
			_, _ = io.WriteString(conn, reply)
		}
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	const empty = "\r\nContent-Length: 0\r\n\r\n"
	long := strings.Repeat("x", 60_000)
	well := health.HTTPOptions{Expect: "all is well"}
	for _, tt := range []struct {
		name   string
		o      health.HTTPOptions
		handle func(net.Conn)
		waits  bool
		want   string
	}{
		{name: "good", handle: talk("HTTP/1.1 200 OK" + empty)},
		{name: "no content", handle: talk("HTTP/1.1 204 No Content\r\n\r\n")},
		{name: "redirect is judged, not followed", handle: talk("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/" + empty[2:])},
		{name: "redirect is not wanted", o: health.HTTPOptions{Status: []health.StatusRange{{200, 299}}}, handle: talk("HTTP/1.1 302 Found" + empty), want: "status 302 Found, want 200-299"},
		{name: "client error", handle: talk("HTTP/1.1 404 Not Found" + empty), want: "status 404"},
		{name: "server error", handle: talk("HTTP/1.1 503 \x1b[31mred" + empty), want: "status 503 Service Unavailable"},
		{name: "error is wanted", o: health.HTTPOptions{Status: []health.StatusRange{{200, 200}, {401, 403}}}, handle: talk("HTTP/1.1 401 Unauthorized" + empty)},
		{name: "none of two", o: health.HTTPOptions{Status: []health.StatusRange{{200, 200}, {401, 403}}}, handle: talk("HTTP/1.1 404 X" + empty), want: "want 200 or 401-403"},
		{name: "HTTP/1.0", handle: hangUp("HTTP/1.0 200 OK\r\n\r\nhello")},
		{name: "interim replies", handle: talk("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK" + empty)},
		{name: "interim replies only", handle: talk(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20)), want: "interim"},
		{name: "another protocol", handle: talk("HTTP/1.1 101 Switching Protocols\r\n\r\n"), want: "status 101"},
		{name: "a body that never ends does not matter", handle: func(conn net.Conn) {
			if _, err := conn.Read(make([]byte, 4096)); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
				flood(conn, []byte(long))
			}
		}},

		{name: "expected", o: well, handle: talk("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n[all is well]\r\n")},
		{name: "expected, chunked", o: well, handle: talk("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nall \r\n8\r\nis well!\r\n0\r\n\r\n")},
		{name: "expected, before the end", o: well, handle: talk("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nall is well")},
		{name: "expected, in small pieces", o: well, handle: func(conn net.Conn) {
			if _, err := conn.Read(make([]byte, 4096)); err == nil {
				inPieces(conn, []byte("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is well"))
				hear(conn)
			}
		}},
		{name: "expected, late", o: well, handle: hangUp("HTTP/1.1 200 OK\r\n\r\n" + long + "all is well")},
		{name: "expected too late", o: well, handle: hangUp("HTTP/1.1 200 OK\r\n\r\n" + long + long + "all is well"), want: "first 64 KiB"},
		{name: "not expected", o: well, handle: talk("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nall is lost\r\n"), want: `body lacks "all is well": "all is lost\r\n"`},
		{name: "no body", o: well, handle: talk("HTTP/1.1 200 OK" + empty), want: `lacks "all is well": ""`},
		{name: "body cut short", o: well, handle: hangUp("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is"), want: "lacks"},
		{name: "expected with a bad status", o: well, handle: talk("HTTP/1.1 500 X\r\nContent-Length: 11\r\n\r\nall is well"), want: "status 500"},
		{name: "expected in the headers", o: well, handle: talk("HTTP/1.1 200 all is well\r\nX: all is well" + empty), want: "lacks"},
		{name: "bad chunk", o: well, handle: talk("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), want: "no \"all is well\" in the body"},
		{name: "slow body", o: well, handle: talk("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall"), waits: true, want: `not complete in time: "all"`},
		{name: "silent body", o: well, handle: talk("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"), waits: true, want: "no reply in time"},

		{name: "half a header", handle: hangUp("HTTP/1.1 200 OK\r\nContent-Le"), want: "closed in the middle"},
		{name: "half a header and silence", handle: talk("HTTP/1.1 200 OK\r\nContent-Le"), waits: true, want: "not complete in time"},
		{name: "half a status line", handle: hangUp("HTTP/1.1 2"), want: "closed in the middle"},
		{name: "no reply", handle: hangUp(""), want: "closed without a reply"},
		{name: "another version", handle: talk("HTTP/9.9 200 OK" + empty), want: "reply of HTTP/9.9"},
		{name: "a banner", handle: talk("SSH-2.0-OpenSSH_9.9\r\n"), want: "malformed HTTP"},
		{name: "a line for a terminal", handle: talk("\x1b]0;\x07" + long + "\r\n\r\n"), want: "malformed HTTP"},
		{name: "two lengths", handle: talk("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), want: "Content-Length"},
		{name: "headers without end", handle: func(conn net.Conn) {
			if _, err := conn.Read(make([]byte, 4096)); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
				flood(conn, []byte("X: "+long+"\r\n"))
			}
		}, want: "256 KiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, target := listen(t, "tcp")
			serveConns(t, ln, tt.handle)
			expectCheck(t, newHTTP(t, tt.o), target, tt.waits, tt.want)
		})
	}
}

// What the target sees of a check: one request and a clean end.
func TestHTTPRequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, network string
		o             health.HTTPOptions
		line, host    string // "" for the host is the target's address
	}{
		{"nothing set", "tcp", health.HTTPOptions{}, "GET / HTTP/1.1", ""},
		{"unix", "unix", health.HTTPOptions{}, "GET / HTTP/1.1", "localhost"},
		{"all set", "tcp", health.HTTPOptions{Method: "HEAD", Host: "Web.example:8080", Path: "/a%2Fb%20c?d=%20&e"}, "HEAD /a%2Fb%20c?d=%20&e HTTP/1.1", "Web.example:8080"},
		{"two slashes", "tcp", health.HTTPOptions{Path: "//a/b?c"}, "GET //a/b?c HTTP/1.1", ""},
		{"characters", "tcp", health.HTTPOptions{Path: "/a[]\"<>^`{|}b:@!$&'()*+,;=~"}, "GET /a[]\"<>^`{|}b:@!$&'()*+,;=~ HTTP/1.1", ""},
		{"post", "tcp", health.HTTPOptions{Method: "POST"}, "POST / HTTP/1.1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, target := listen(t, tt.network)
			got := make(chan seen, 1)
			serveConns(t, ln, func(conn net.Conn) {
				// The check needs only the beginning, but unread data would turn its
				// close into a reset.
				if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 25000\r\n\r\n"+strings.Repeat("x", 25_000)); err != nil {
					got <- seen{err: err}
					return
				}
				data, err := io.ReadAll(conn)
				got <- seen{data, err}
			})
			expectError(t, check(t, newHTTP(t, tt.o), target, false), "")
			request := <-got
			if request.err != nil {
				t.Errorf("the target saw %v, want a clean end", request.err)
			}
			host := tt.host
			if host == "" {
				host = target.Address
			}
			lines := strings.Split(string(request.data), "\r\n")
			for _, want := range []string{tt.line, "Host: " + host, "Connection: close", "User-Agent: usher-health"} {
				found := 0
				for _, line := range lines {
					if line == want {
						found++
					}
				}
				if found != 1 {
					t.Errorf("the request has %q %d times: %q", want, found, request.data)
				}
			}
		})
	}
}

// Over TLS the verified name is that of the Host header by default.
func TestHTTPOverTLS(t *testing.T) {
	t.Parallel()
	me := newIdentity(t, "web.example")
	for _, tt := range []struct {
		name, network, host, serverName, want string
	}{
		{"name of the host", "tcp", "web.example", "", ""},
		{"name of the host with a port", "unix", "web.example:8443", "", ""},
		{"name of its own", "tcp", "else.example", "web.example", ""},
		{"no name", "tcp", "", "", "127.0.0.1"},
		{"wrong name", "unix", "else.example", "", "else.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, target := listen(t, tt.network)
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s %s for %s at %s", r.Proto, r.Method, r.Host, r.TLS.ServerName)
			})
			serveHTTP(t, me.over(ln, "h2", "http/1.1"), &http.Server{Handler: handler})
			c := newHTTP(t, health.HTTPOptions{
				Host: tt.host, TLS: me.trust(t, tt.serverName),
				Expect: "HTTP/1.1 GET for " + tt.host + " at web.example",
			})
			expectError(t, check(t, c, target, false), tt.want)
		})
	}
	t.Run("cleartext server", func(t *testing.T) {
		t.Parallel()
		ln, target := listen(t, "tcp")
		serveConns(t, ln, hangUp("HTTP/1.1 400 Bad Request\r\n\r\n"))
		expectError(t, check(t, newHTTP(t, health.HTTPOptions{TLS: me.trust(t, "")}), target, false), "TLS handshake")
	})
	t.Run("TLS server", func(t *testing.T) {
		t.Parallel()
		ln, target := listen(t, "tcp")
		serveHTTP(t, me.over(ln, "http/1.1"), &http.Server{})
		expectError(t, check(t, newHTTP(t, health.HTTPOptions{}), target, false), "status 400")
	})
}
