package flow

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"

	"usher/proxy/proxyheader"
)

// SendsProxy reports whether the backend is told of the client before its first byte.
func (f *Flow) SendsProxy() bool { return f.Settings.SendProxy.Version != 0 }

// AppendProxyHeader appends the PROXY header towards the flow's backend: at most
// [proxyheader.MaxLength] bytes. local is what the client is connected to.
func (a *Admission) AppendProxyHeader(dst []byte, f *Flow, local netip.AddrPort) []byte {
	h := proxyheader.Header{Source: f.Client, Destination: local}
	if !f.Client.IsValid() {
		h.Source, h.Destination = netip.AddrPort{}, netip.AddrPort{}
	}
	return a.appendHeader(dst, h, &f.Origin, f.Settings.SendProxy)
}

// appendHeader appends a header, with what is known beyond its addresses.
func (a *Admission) appendHeader(dst []byte, h proxyheader.Header, o *Origin, how SendProxy) []byte {
	if o.Via != nil && o.Via.Destination.IsValid() && h.Source.IsValid() {
		h.Destination = o.Via.Destination
	}
	if how.Version == 1 && !h.Datagram {
		return proxyheader.AppendV1(dst, &h)
	}
	if how.ID {
		a.identify(o)
	}
	if o.Via != nil {
		h.TLVs = o.Via.TLVs
	}
	return proxyheader.AppendV2(dst, &h)
}

// identify gives a flow or a session an id that no other one has, or has had, unless its client came with
// one. It is text, so that it is found in logs as it is.
func (a *Admission) identify(o *Origin) {
	if o.Via != nil && o.Via.ID != "" {
		return
	}
	o.changeVia(func(v *Via) {
		if id := proxyheader.UniqueID(v.TLVs); id != nil {
			v.ID = string(id)
			return
		}
		var number [16]byte
		binary.BigEndian.PutUint64(number[:8], a.Seed)
		binary.BigEndian.PutUint64(number[8:], a.ids.Add(1))
		id := hex.AppendEncode(nil, number[:])
		v.ID = string(id)
		v.TLVs = proxyheader.AppendUniqueID(v.TLVs[:len(v.TLVs):len(v.TLVs)], id)
	})
}
