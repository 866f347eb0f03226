package health_test

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"usher/health"
)

// serveHTTP runs an HTTP server until the end of the test.
func serveHTTP(t testing.TB, ln net.Listener, server *http.Server) {
	t.Helper()
	server.ErrorLog = stdlog.New(io.Discard, "", 0)
	var serving sync.WaitGroup
	t.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
	serving.Go(func() { _ = server.Serve(ln) })
}

// serveGRPC runs an HTTP/2 server, also in cleartext.
func serveGRPC(t testing.TB, ln net.Listener, handler http.HandlerFunc) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	serveHTTP(t, ln, &http.Server{Handler: handler, Protocols: protocols})
}

// answerCall returns a handler that sends one message and a status.
func answerCall(message, status string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc+proto")
		w.Header().Set("Trailer", "Grpc-Status")
		frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
		_, _ = w.Write(append(frame, message...))
		w.Header().Set("Grpc-Status", status)
	}
}

// answerAs returns a handler that answers SERVING with a content type.
func answerAs(contentType string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, "\x00\x00\x00\x00\x02"+serving)
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}
}

// answerStatus returns a handler that sends only a status.
func answerStatus(status, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", status)
		if message != "" {
			w.Header().Set("Grpc-Message", message)
		}
	}
}

// answerRaw returns a handler that sends a body, and pairs of keys and values as trailers.
func answerRaw(body string, trailers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		_, _ = io.WriteString(w, body)
		for i := 0; i < len(trailers); i += 2 {
			w.Header().Set(http.TrailerPrefix+trailers[i], trailers[i+1])
		}
	}
}

func TestNewGRPC(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		o    health.GRPCOptions
		want []string
	}{
		{name: "nothing"},
		{name: "all", o: health.GRPCOptions{Service: "a.b.C", Authority: "api.example:443"}},
		{name: "authority", o: health.GRPCOptions{Authority: "a/b"}, want: []string{"authority", "a/b"}},
		{name: "port", o: health.GRPCOptions{Authority: "a:b"}, want: []string{"authority", `"b" is no port`}},
		{name: "brackets", o: health.GRPCOptions{Authority: "[::1"}, want: []string{"authority", "[::1"}},
		{name: "user", o: health.GRPCOptions{Authority: "u@a"}, want: []string{"authority"}},
		{name: "bytes", o: health.GRPCOptions{Service: "a\xff"}, want: []string{"service", "UTF-8"}},
		{name: "giant", o: health.GRPCOptions{Service: strings.Repeat("x", 5000)}, want: []string{"service", "5000"}},
	} {
		_, err := health.NewGRPC(tt.o)
		expectRefusal(t, tt.name, err, tt.want)
	}
}

const serving = "\x08\x01"

func TestGRPC(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"serving", answerCall(serving, "0"), ""},
		{"serving, with fields of the future", answerCall("\x12\x02hi"+serving+"\x1d\x01\x02\x03\x04", "0"), ""},
		{"not serving", answerCall("\x08\x02", "0"), "NOT_SERVING"},
		{"unknown", answerCall("\x08\x00", "0"), "UNKNOWN"},
		{"unknown is the default", answerCall("", "0"), "UNKNOWN"},
		{"service unknown", answerCall("\x08\x03", "0"), "SERVICE_UNKNOWN"},
		{"a status of the future", answerCall("\x08\x09", "0"), "status 9"},
		{"not found", answerStatus("5", "unknown%20service"), `does not know the service "": NOT_FOUND "unknown service"`},
		{"unimplemented", answerStatus("12", ""), "does not have the health protocol: UNIMPLEMENTED"},
		{"unavailable", answerStatus("14", "a%zz\tb"), `UNAVAILABLE "a%zz\tb"`},
		{"a code of the future", answerStatus("99", ""), "the call failed: 99"},
		{"no code", answerStatus("nonsense", ""), `malformed grpc-status "nonsense"`},
		{"a failure after a good message", answerCall(serving, "13"), "INTERNAL"},
		{"a status alone", answerStatus("0", ""), "no message"},
		{"no status", answerRaw("\x00\x00\x00\x00\x02" + serving), "no grpc-status"},
		{"unannounced trailer", answerRaw("\x00\x00\x00\x00\x02"+serving, "Grpc-Status", "0"), ""},
		{"two messages", answerRaw("\x00\x00\x00\x00\x02"+serving+"\x00\x00\x00\x00\x00", "Grpc-Status", "0"), "more than one"},
		{"cut short", answerRaw("\x00\x00\x00\x00\x03"+serving, "Grpc-Status", "0"), "cut short"},
		{"no frame", answerRaw("\x00\x00", "Grpc-Status", "0"), "cut short"},
		{"giant frame", answerRaw("\x00\xff\xff\xff\xff"+serving, "Grpc-Status", "0"), "cut short"},
		{"compressed", answerRaw("\x01\x00\x00\x00\x02"+serving, "Grpc-Status", "0"), "compressed"},
		{"malformed", answerCall("\x08", "0"), "malformed"},
		{"endless", answerRaw(strings.Repeat("x", 100_000), "Grpc-Status", "0"), "longer than 4096 bytes"},
		{"giant trailer", answerRaw("\x00\x00\x00\x00\x02"+serving, "Grpc-Status", "0", "X", strings.Repeat("x", 100_000)), "ask "},
		{"a web server", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, "HTTP status 404"},
		{"gRPC-Web", answerAs("application/grpc-web"), `content type "application/grpc-web"`},
		{"gRPC-Web with an encoding", answerAs("application/grpc-web+proto"), "not a gRPC server"},
		{"another encoding", answerAs("application/grpc+json"), ""},
		{"with a parameter", answerAs("Application/gRPC;charset=x"), ""},
		{"a web server that likes it", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") }, "not a gRPC server"},
		{"aborts", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "ask "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, target := listen(t, "tcp")
			serveGRPC(t, ln, tt.handler)
			expectError(t, check(t, newGRPC(t, health.GRPCOptions{}), target, false), tt.want)
		})
	}
	t.Run("silent call", func(t *testing.T) {
		t.Parallel()
		ln, target := listen(t, "tcp")
		serveGRPC(t, ln, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		expectCheck(t, newGRPC(t, health.GRPCOptions{}), target, true, "in time")
	})
	t.Run("a server of HTTP/1.1", func(t *testing.T) {
		t.Parallel()
		ln, target := listen(t, "tcp")
		serveHTTP(t, ln, &http.Server{})
		expectError(t, check(t, newGRPC(t, health.GRPCOptions{}), target, false), "ask ")
	})
}

// What the target sees of a call, over all transports.
func TestGRPCRequest(t *testing.T) {
	t.Parallel()
	me := newIdentity(t, "127.0.0.1", "localhost", "api.example")
	for _, tt := range []struct {
		name, network string
		secure        bool
		o             health.GRPCOptions
		host, body    string // "" for the host is the target's address
	}{
		{"cleartext", "tcp", false, health.GRPCOptions{}, "", "0000000000"},
		{"TLS", "tcp", true, health.GRPCOptions{}, "", "0000000000"},
		{"unix", "unix", false, health.GRPCOptions{Service: "a.B"}, "localhost", "0000000005" + "0a03" + "612e42"},
		{"unix with TLS", "unix", true, health.GRPCOptions{}, "localhost", "0000000000"},
		{"authority", "tcp", true, health.GRPCOptions{Authority: "api.example:1", Service: strings.Repeat("x", 200)}, "api.example:1", "00000000cb" + "0ac801" + strings.Repeat("78", 200)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, target := listen(t, tt.network)
			if tt.secure {
				ln = me.over(ln, "h2")
				tt.o.TLS = me.trust(t, "")
			}
			requests := make(chan *http.Request, 1)
			bodies := make(chan string, 1)
			serveGRPC(t, ln, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				requests <- r
				bodies <- hex.EncodeToString(body)
				answerCall(serving, "0")(w, r)
			})
			expectError(t, check(t, newGRPC(t, tt.o), target, false), "")
			r, body := <-requests, <-bodies
			host := tt.host
			if host == "" {
				host = target.Address
			}
			for name, pair := range map[string][2]string{
				"method":       {r.Method, "POST"},
				"path":         {r.URL.String(), "/grpc.health.v1.Health/Check"},
				"protocol":     {r.Proto, "HTTP/2.0"},
				"authority":    {r.Host, host},
				"te":           {r.Header.Get("Te"), "trailers"},
				"content type": {r.Header.Get("Content-Type"), "application/grpc"},
				"encoding":     {r.Header.Get("Accept-Encoding"), ""},
				"body":         {body, tt.body},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s: %q, want %q", name, pair[0], pair[1])
				}
			}
			if (r.TLS != nil) != tt.secure {
				t.Errorf("TLS: %v", r.TLS)
			}
		})
	}
}

// Over TLS, a server must agree on HTTP/2.
func TestGRPCWantsHTTP2(t *testing.T) {
	t.Parallel()
	me := newIdentity(t, "127.0.0.1")
	for _, protocol := range []string{"http/1.1", ""} {
		ln, target := listen(t, "tcp")
		protocols := []string{protocol}
		if protocol == "" {
			protocols = nil
		}
		serveHTTP(t, me.over(ln, protocols...), &http.Server{TLSNextProto: nil})
		c := newGRPC(t, health.GRPCOptions{TLS: me.trust(t, "")})
		want := "TLS handshake"
		if protocol == "" {
			want = "HTTP/2"
		}
		expectError(t, check(t, c, target, false), want)
	}
}
