package clienthello

import "encoding/binary"

const (
	typeHandshake   = 22 // of a record
	typeClientHello = 1  // of a handshake message
	majorVersion    = 3  // of SSL 3.0 and all TLS

	recordHead  = 5 // bytes of type, version and length
	messageHead = 4 // bytes of type and length
	maxRecord   = 16 << 10
)

// message returns the body of the ClientHello that the records of b hold. It copies it only if
// there are several, once all are there.
func message(b []byte) (reader, error) {
	b = b[:min(len(b), MaxLength)]
	if len(b) > 0 && b[0] != typeHandshake || len(b) > 1 && b[1] != majorVersion {
		return nil, ErrNotTLS
	}
	var head [messageHead]byte
	have, want := 0, messageHead // bytes of the message, with its head
	for rest := reader(b); ; {
		part, isWhole, err := rest.record()
		if err != nil {
			return nil, err
		}
		copy(head[min(have, messageHead):], part)
		have += len(part)
		if have > 0 && head[0] != typeClientHello {
			return nil, ErrMalformed
		}
		if have >= messageHead {
			want = messageHead + int(binary.BigEndian.Uint32(head[:])&0xffffff)
		}
		switch {
		case want > messageHead+maxMessage:
			return nil, ErrTooLong
		case have >= want && have == len(part):
			return part[messageHead:want], nil
		case have >= want:
			return gather(b, want)[messageHead:], nil
		case !isWhole && len(b) == MaxLength:
			return nil, ErrTooLong
		case !isWhole:
			return nil, ErrIncomplete
		}
	}
}

// record reads the content of a record of handshake messages, or as much of it as there is.
func (r *reader) record() (content reader, isWhole bool, err error) {
	head, ok := r.bytes(recordHead)
	if !ok {
		return nil, false, nil
	}
	length := int(binary.BigEndian.Uint16(head[3:]))
	if head[0] != typeHandshake || head[1] != majorVersion || length == 0 || length > maxRecord {
		return nil, false, ErrMalformed
	}
	if content, ok = r.bytes(length); !ok {
		return *r, false, nil
	}
	return content, true, nil
}

// gather returns the first n bytes that records hold.
func gather(b reader, n int) []byte {
	all := make([]byte, 0, n)
	for len(all) < n {
		part, _, _ := b.record()
		all = append(all, part[:min(len(part), n-len(all))]...)
	}
	return all
}

// reader reads from the beginning of what is left. Its methods return false, and read
// nothing, if there is less.
type reader []byte

func (r *reader) bytes(n int) (reader, bool) {
	if len(*r) < n {
		return nil, false
	}
	b := (*r)[:n:n]
	*r = (*r)[n:]
	return b, true
}

func (r *reader) uint16() (uint16, bool) {
	b, ok := r.bytes(2)
	if !ok {
		return 0, false
	}
	return binary.BigEndian.Uint16(b), true
}

// vector8 reads bytes behind their number, of one byte.
func (r *reader) vector8() (reader, bool) {
	n, ok := r.bytes(1)
	if !ok {
		return nil, false
	}
	return r.bytes(int(n[0]))
}

// vector16 reads bytes behind their number, of two bytes.
func (r *reader) vector16() (reader, bool) {
	n, ok := r.uint16()
	if !ok {
		return nil, false
	}
	return r.bytes(int(n))
}
