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

// backend answers every request with its own name: a page for a browser, a
// line for everything else.
type backend struct {
	number int // from 1
	addr   netip.AddrPort
	served atomic.Uint64
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if r.URL.Path == "/favicon.ico" {
		// The page brings its icon along. A browser that asks all the same
		// need not ask again, and does not count as a visit.
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
	// Nothing of this comes from the client, so nothing needs escaping.
	io.WriteString(w, strings.NewReplacer(
		"{name}", name,
		"{addr}", b.addr.String(),
		"{served}", strconv.FormatUint(served, 10),
		// Its colour. The golden angle keeps neighbours far apart, however
		// many there are.
		"{hue}", strconv.Itoa(b.number*137%360),
	).Replace(page))
}
