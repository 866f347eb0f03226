// Package page is the page that a browser shows of a running usher: one HTML file with its styles, one script, and uPlot,
// which draws its charts. All of it is in the binary, and it asks no other host for anything.
//
//	index.html ── page.js ──▶ GET /v1/live               services, backends and events, as they change
//	                     ├──▶ GET /v1/flows              the flow table, while it is seen
//	                     └──▶ PUT, DELETE /v1/…          drain, maint, resume, kill: with the token
//
// The script has a map of its own at its head. Package admin serves the files; see routes.go there.
package page

import (
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
)

var (
	//go:embed index.html
	index string
	//go:embed page.js
	script string
	//go:embed uplot/uPlot.iife.min.js.gz
	uplot string // of 1.6.32, from the npm package uplot, by gzip -9n: the binary has a bound
	//go:embed uplot/uPlot.min.css
	uplotStyle string
	//go:embed uplot/LICENSE
	uplotLicense string
)

// Page serves the files of the page. It is safe for concurrent use.
type Page struct {
	files  map[string]file // by name; "" is the page itself
	policy string          // Content-Security-Policy
}

// file is one file as it is served.
type file struct {
	kind, text, tag string
	isGzip          bool // the text is, for a client that takes that
}

// New returns the page.
func New() *Page {
	const js, css = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
	p := &Page{files: map[string]file{
		"":                  newFile("text/html; charset=utf-8", index),
		"page.js":           newFile(js, script),
		"uPlot.iife.min.js": newFile(js, uplot).gzipped(),
		"uPlot.min.css":     newFile(css, uplotStyle),
		"uPlot.LICENSE":     newFile("text/plain; charset=utf-8", uplotLicense),
	}}
	// Names and reasons come from strangers. Should one ever get into the markup, no script of it runs and nothing leaves.
	p.policy = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:; style-src 'self' '" + styleHash(index) + "'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
	return p
}

func newFile(kind, text string) file {
	return file{kind: kind, text: text, tag: `"` + hash(text)[:16] + `"`}
}

func (f file) gzipped() file {
	f.isGzip = true
	return f
}

// styleHash returns the source that lets the style element of the page in, and no other.
func styleHash(html string) string {
	_, style, _ := strings.Cut(html, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	return "sha256-" + hash(style)
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Serve answers with a file; "" is the page itself. It reports whether there is one. A browser keeps it, and asks each
// time whether it has changed.
func (p *Page) Serve(w http.ResponseWriter, r *http.Request, name string) bool {
	f, ok := p.files[name]
	if !ok {
		return false
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("ETag", f.tag)
	if f.isGzip {
		h.Set("Vary", "Accept-Encoding")
	}
	if strings.Contains(r.Header.Get("If-None-Match"), f.tag) { // one of a list; a proxy that packs puts W/ before it
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	h.Set("Content-Type", f.kind)
	if f.isGzip {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			unpack(w, f.text)
			return true
		}
		h.Set("Content-Encoding", "gzip")
	}
	_, _ = w.Write([]byte(f.text)) // or the reader is gone
	return true
}

// unpack answers with what a gzipped text has. No browser needs it.
func unpack(w http.ResponseWriter, text string) {
	if z, err := gzip.NewReader(strings.NewReader(text)); err == nil { // it is ours
		_, _ = io.Copy(w, z)
	}
}
