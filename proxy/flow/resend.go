package flow

import "encoding/binary"

const (
	// resendSize is what a worker has for copies, a few of the largest datagrams.
	resendSize = 256 << 10
	// resendMost is what one session may have of it: the largest datagram, or a burst.
	resendMost = maxDatagramSize + 1<<10
	// maxDatagramSize is the largest payload that IPv6 has room for.
	maxDatagramSize = 65527
)

// resendBuffer holds copies of datagrams that a backend may yet refuse. It is written
// round and round. The newest copies overwrite the oldest, so nothing is ever freed, and
// a reader of a copy may find it gone.
type resendBuffer struct {
	block []byte // made with the first copy
	end   uint64 // the position of the next record; positions only grow
}

// resendHeader is what a record begins with: the position of the session's next record,
// the size of the copy and that of the datagrams in it.
const resendHeader = 16

// voidSegment marks a record as withdrawn.
const voidSegment = 1<<32 - 1

// add makes a record of n bytes, which the caller fills.
func (r *resendBuffer) add(n, segment int) (at uint64, copied []byte) {
	if r.block == nil {
		r.block, r.end = make([]byte, resendSize), resendSize // no record is at 0
	}
	size := uint64(resendHeader + n)
	if left := resendSize - r.end%resendSize; left < size {
		r.end += left
	}
	at = r.end
	r.end += size
	p := r.block[at%resendSize:][:size]
	binary.NativeEndian.PutUint64(p, 0)
	binary.NativeEndian.PutUint32(p[8:], uint32(n))
	binary.NativeEndian.PutUint32(p[12:], uint32(segment))
	return at, p[resendHeader:]
}

// header returns that of a record; nil if the record is overwritten.
func (r *resendBuffer) header(at uint64) []byte {
	if at == 0 || r.end-at > resendSize {
		return nil
	}
	return r.block[at%resendSize:][:resendHeader]
}

// follow makes one record the next of another.
func (r *resendBuffer) follow(at, next uint64) {
	binary.NativeEndian.PutUint64(r.header(at), next)
}

// void withdraws a record.
func (r *resendBuffer) void(at uint64) {
	binary.NativeEndian.PutUint32(r.header(at)[12:], voidSegment)
}

// record returns a copy, which is not overwritten, the size of the datagrams in it, and
// the position of the next record; zero: there is none. The copy is nil if it was
// withdrawn.
func (r *resendBuffer) record(at uint64) (p []byte, segment int, next uint64) {
	h := r.header(at)
	next = binary.NativeEndian.Uint64(h)
	size := binary.NativeEndian.Uint32(h[12:])
	if size == voidSegment {
		return nil, 0, next
	}
	n := binary.NativeEndian.Uint32(h[8:])
	return r.block[at%resendSize+resendHeader:][:n], int(size), next
}
