package demo

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Backend is one of the demo's servers.
//
//	alive ── Kill ──▶ dead ── Return ──▶ alive …
type Backend struct {
	number int // from 1
	addr   netip.AddrPort
	served atomic.Uint64 // requests

	mu       sync.Mutex
	server   *http.Server // nil: it is dead
	listener net.Listener // of server, which may not know it yet
	lives    int          // how often it has come to life
	echoing  map[net.Conn]struct{}
	reserved io.Closer // keeps the port of a dead backend; nil: nothing does

	running sync.WaitGroup
}

// Name is what its replies say.
func (b *Backend) Name() string { return fmt.Sprintf("backend-%d", b.number) }

// id names the backend and its life; after a Kill no backend has it any more.
func (b *Backend) id() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.idLocked()
}

func (b *Backend) idLocked() string { return fmt.Sprintf("%s/%d", b.Name(), b.lives) }

// IsAlive reports whether it serves.
func (b *Backend) IsAlive() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.server != nil
}

// serve brings the backend to life on ln.
func (b *Backend) serve(ln net.Listener) {
	server := &http.Server{
		Handler:           b,
		ReadHeaderTimeout: time.Minute,
		WriteTimeout:      time.Minute,
		// Errors of clients do not matter to the demo.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	server.SetKeepAlivesEnabled(false) // each reply says Connection: close
	b.mu.Lock()
	defer b.mu.Unlock()
	b.server, b.listener, b.echoing = server, ln, make(map[net.Conn]struct{})
	b.running.Go(func() {
		// Serve ends when the server is closed. If accept fails before, the health
		// checks take the backend down.
		_ = server.Serve(ln)
	})
}

// Kill has happen what a crash of the process does: nobody listens any more, and all
// connections end. Requests in hand stay unanswered. A dead backend stays dead.
func (b *Backend) Kill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server == nil {
		return
	}
	_ = b.server.Close()
	b.endLocked()
	// Otherwise the kernel could give the port to somebody else, who would get clients.
	b.reserved, _ = reserve(b.addr)
}

// endLocked ends the connections that the server does not know any more. The caller must
// hold mu.
func (b *Backend) endLocked() {
	b.listener.Close()
	b.server = nil
	b.lives++
	for conn := range b.echoing {
		conn.Close()
	}
}

// Return brings a dead backend back to its address.
func (b *Backend) Return() error {
	b.release()
	ln, err := net.Listen("tcp4", b.addr.String())
	if err != nil {
		return fmt.Errorf("%s cannot come back: %w", b.Name(), err)
	}
	b.serve(ln)
	return nil
}

// release gives the port of a dead backend free.
func (b *Backend) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reserved != nil {
		b.reserved.Close()
		b.reserved = nil
	}
}

// close ends the backend, which answers until ctx ends what it has in hand.
func (b *Backend) close(ctx context.Context) {
	b.mu.Lock()
	server := b.server
	if server != nil {
		b.endLocked()
	}
	b.mu.Unlock()
	if server != nil && server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
	b.release()
	b.running.Wait()
}
