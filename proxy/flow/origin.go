package flow

import "net/netip"

// Origin is how a client came.
type Origin struct {
	Client netip.AddrPort // invalid for a client on a unix socket
	Local  netip.AddrPort // what the client asked for, as far as it is known; invalid for a unix listener
	Path   string         // of a unix listener
	Offset uint16         // of the listener's port within its range
	Via    *Via           `cbor:",omitempty"` // nil: nothing more is known
}

// Via is what is known of a client beyond its addresses. It never changes.
type Via struct {
	Peer        netip.AddrPort `cbor:",omitempty"` // who has named the client; invalid: nobody
	Destination netip.AddrPort `cbor:",omitempty"` // what the client asked the peer for
	TLVs        []byte         `cbor:",omitempty"` // of the PROXY header, for that towards the backend
	ServerName  string         `cbor:",omitempty"` // where it is logged
	ID          string         `cbor:",omitempty"` // that the backend was told
}
