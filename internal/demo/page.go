package demo

import (
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
)

//go:embed page.html
var page string

// backend answers each request with its name: a page for a browser, else a line.
type backend struct {
	number int // from 1
	addr   netip.AddrPort
	served atomic.Uint64
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if r.URL.Path == "/favicon.ico" {
		// The page contains its icon. A browser that asks anyway does not count as a visit.
		h.Set("Cache-Control", "max-age=86400")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	name := fmt.Sprintf("backend-%d", b.number)
	served := b.served.Add(1)
	h.Set("Cache-Control", "no-store") // a reload is a new flow
	h.Set("Vary", "Accept")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "hello from %s (%s)\n", name, b.addr)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	// None of this comes from the client, so none needs escaping.
	io.WriteString(w, strings.NewReplacer(
		"{name}", name,
		"{addr}", b.addr.String(),
		"{served}", strconv.FormatUint(served, 10),
		// The golden angle keeps the colours of any number of neighbours far apart.
		"{hue}", strconv.Itoa(b.number*137%360),
	).Replace(page))
}
