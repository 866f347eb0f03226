package load

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams one call moves.
const batchSize = 64

// batch is room for datagrams of one size, as recvmmsg and sendmmsg expect it. Its
// layout is fixed, so a batch that was read can be sent back as it is.
type batch struct {
	headers []mmsghdr
	data    []byte
	size    int
}

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	header unix.Msghdr
	n      uint32 // bytes read or written
}

// newBatch makes room for datagrams of size bytes. With named, each has an IPv4
// address: its source or its destination.
func newBatch(size int, named bool) batch {
	b := batch{
		headers: make([]mmsghdr, batchSize),
		data:    make([]byte, batchSize*size),
		size:    size,
	}
	vectors := make([]unix.Iovec, batchSize)
	names := make([]unix.RawSockaddrInet4, batchSize)
	for i := range b.headers {
		vectors[i].Base = &b.datagram(i)[0]
		vectors[i].SetLen(size)
		h := &b.headers[i].header
		h.Iov = &vectors[i]
		h.SetIovlen(1)
		if named {
			h.Name = (*byte)(unsafe.Pointer(&names[i]))
			// The kernel overwrites the length with this value.
			h.Namelen = unix.SizeofSockaddrInet4
		}
	}
	return b
}

// datagram is the bytes of datagram i.
func (b *batch) datagram(i int) []byte { return b.data[i*b.size : (i+1)*b.size] }

// isWhole reports whether datagram i, as it was read, has the right length.
func (b *batch) isWhole(i int) bool {
	h := &b.headers[i]
	return int(h.n) == b.size && h.header.Flags&unix.MSG_TRUNC == 0
}

// read fills the batch and returns the number of datagrams.
func (b *batch) read(fd int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b.headers))), uintptr(len(b.headers)), 0, 0, 0)
	return int(n), errno
}

// write sends the first n. The kernel may stop short of them and reports why at the
// next call.
func (b *batch) write(fd, n int) unix.Errno {
	for done := 0; done < n; {
		sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd),
			uintptr(unsafe.Pointer(&b.headers[done])), uintptr(n-done), unix.MSG_NOSIGNAL, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			return errno
		}
		if errno == 0 {
			done += int(sent)
		}
	}
	return 0
}
