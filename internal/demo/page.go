package demo

import (
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

//go:embed page.html
var page string

// greeting begins the line that clients get.
const greeting = "hello from "

// ServeHTTP answers each request with the backend's name: a page for a browser, else a
// line.
func (b *Backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if isEcho(r) {
		b.echo(w)
		return
	}
	if r.URL.Path == "/favicon.ico" {
		// The page contains its icon. A browser that asks anyway does not count as a visit.
		h.Set("Cache-Control", "max-age=86400")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	name := b.Name()
	served := b.served.Add(1)
	h.Set("Cache-Control", "no-store") // a reload is a new flow
	h.Set("Vary", "Accept")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "%s%s (%s)\n", greeting, name, b.addr)
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
