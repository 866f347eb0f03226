package flow

import (
	"time"

	"usher/proxy/proxyheader"
)

// A backend that is told of a session's client gets a PROXY header at the start of a datagram.
// With SendProxy.Every that is each one. Else it is the first one, and again the next one
// after a silence: the header may have been lost, or the backend may have forgotten the
// session, and nothing else would tell it again.
//
//	new backend ──▶ header ── a reply ──▶ none ── headerFresh without one ──▶ header
//	                  └─ headerLost without a reply ──▶ header
//
// So a receiver must take a header at the start of any datagram. And a datagram of the client
// that begins like a header has one put before it: else its client could name another one.
const (
	// headerLost is shorter than the second that a sender waits before it repeats what was
	// not answered (RFC 8961, section 4): the repetition has the header.
	headerLost = 500 * time.Millisecond
	// headerFresh is shorter than receivers keep a session that is silent.
	headerFresh = 5 * time.Second
)

// SendsProxy reports whether the backend is told of the client.
func (x *Session) SendsProxy() bool { return x.Settings.SendProxy.Version != 0 }

// NeedsHeader reports whether the datagram p must have the header before it.
func (x *Session) NeedsHeader(p []byte, now time.Duration) bool {
	return x.Settings.SendProxy.Every || now >= x.header || proxyheader.IsVersion2(p)
}

// HeaderSent notes that a datagram with the header is sent.
func (x *Session) HeaderSent(now time.Duration) { x.header = now + headerLost }

// HeaderDropped notes that a datagram did not leave which may have had the header.
func (x *Session) HeaderDropped() { x.header = 0 }

// AppendHeader appends the header that names a session's client.
func (m *Sessions) AppendHeader(dst []byte, x *Session) []byte {
	h := proxyheader.Header{Source: x.Client, Destination: x.Local, Datagram: true}
	return m.admission.appendHeader(dst, h, &x.Origin, x.Settings.SendProxy)
}
