package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"
)

// Bounds of a server. A client that is slower loses its connection; more clients wait in the accept queue.
const (
	maxConns      = 128              // at once
	maxStreams    = 64               // of these, that read flows and events, or rebalance
	maxHeader     = 16 << 10         // bytes of a request's header
	headerTimeout = 5 * time.Second  // from the first byte of a request to the end of its header
	readTimeout   = 15 * time.Second // the same with its body
	writeTimeout  = 30 * time.Second // for each piece of an answer
	idleTimeout   = time.Minute      // between two requests
)

// Server serves a handler on one listener until it is closed.
type Server struct {
	listener *Listener
	http     http.Server
	requests sync.RWMutex // each request has it for reading; Close keeps it
	done     chan struct{}
	closing  sync.Once
}

// Serve begins to serve. Close ends it.
func Serve(l *Listener, h http.Handler, log *zap.Logger) *Server {
	open, endStreams := context.WithCancel(context.Background())
	base := context.WithValue(context.Background(), streamsKey{}, &streams{open, make(chan struct{}, maxStreams)})
	s := &Server{listener: l, done: make(chan struct{})}
	s.http = http.Server{
		Handler:           s.counted(h),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          zap.NewStdLog(log),
	}
	s.http.RegisterOnShutdown(endStreams)
	go func() {
		defer close(s.done)
		if err := s.http.Serve(netutil.LimitListener(l, maxConns)); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the API is not served any more", zap.Stringer("address", l.Addr()), zap.Error(err))
		}
	}()
	return s
}

// counted has Close wait for the requests that h serves.
func (s *Server) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.requests.TryRLock() {
			return // the connection is being closed
		}
		defer s.requests.RUnlock()
		h.ServeHTTP(w, r)
	})
}

// streams are the answers of a server that may take long.
type streams struct {
	open   context.Context // ends with the server
	places chan struct{}   // has room for as many as there may be
}

// streamsKey is where the context of a request has the streams of its server.
type streamsKey struct{}

// enterStream returns a context of the stream that answers a request, which ends with the server too. Leave ends it.
func enterStream(request context.Context) (ctx context.Context, leave func(), err error) {
	ctx, cancel := context.WithCancel(request)
	s, ok := request.Value(streamsKey{}).(*streams)
	if !ok {
		return ctx, cancel, nil // there is no server
	}
	select {
	case s.places <- struct{}{}:
	default:
		cancel()
		return nil, nil, &statusError{http.StatusServiceUnavailable,
			fmt.Sprintf("flows, events and the page have %d readers, and no room for more", maxStreams)}
	}
	stop := context.AfterFunc(s.open, cancel)
	return ctx, func() {
		stop()
		cancel()
		<-s.places
	}, nil
}

// Listener returns where it serves.
func (s *Server) Listener() *Listener { return s.listener }

// Close removes the socket's file, ends streams, waits for other requests until ctx ends, and then cuts them.
func (s *Server) Close(ctx context.Context) {
	s.closing.Do(func() {
		if s.http.Shutdown(ctx) != nil {
			_ = s.http.Close() // which ends the contexts of requests
		}
		<-s.done
		s.requests.Lock()
	})
}
