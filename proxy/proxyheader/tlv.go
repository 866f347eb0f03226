package proxyheader

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/pires/go-proxyproto"
)

const (
	typeCRC32C   = byte(proxyproto.PP2_TYPE_CRC32C)
	typeUniqueID = byte(proxyproto.PP2_TYPE_UNIQUE_ID)

	headTLV  = 3 // bytes of type and length
	checksum = 4 // bytes of a CRC
	// maxUniqueID bounds a unique id, by the specification.
	maxUniqueID = 128
)

// nextTLV returns the first TLV and those after it. It returns false if its length says more
// than there is.
func nextTLV(tlvs []byte) (kind byte, value, rest []byte, ok bool) {
	if len(tlvs) < headTLV {
		return 0, nil, nil, false
	}
	kind, end := tlvs[0], headTLV+int(binary.BigEndian.Uint16(tlvs[1:]))
	if len(tlvs) < end {
		return 0, nil, nil, false
	}
	return kind, tlvs[headTLV:end:end], tlvs[end:], true
}

// checkTLVs checks the TLVs at the end of a header: their lengths, and the checksum if there
// is one. A second checksum could not be computed, and is refused.
func checkTLVs(header []byte, length int) error {
	sumAt := -1
	for rest := header[len(header)-length:]; len(rest) > 0; {
		kind, value, after, ok := nextTLV(rest)
		switch {
		case !ok:
			return ErrTLV
		case kind == typeUniqueID && len(value) > maxUniqueID:
			return ErrTLV
		case kind == typeCRC32C && (len(value) != checksum || sumAt >= 0):
			return ErrTLV
		case kind == typeCRC32C:
			sumAt = len(header) - len(after) - checksum
		}
		rest = after
	}
	if sumAt < 0 {
		return nil
	}
	// The field itself counts as zeros.
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, header[:sumAt])
	sum = crc32.Update(sum, table, make([]byte, checksum))
	sum = crc32.Update(sum, table, header[sumAt+checksum:])
	if sum != binary.BigEndian.Uint32(header[sumAt:]) {
		return ErrChecksum
	}
	return nil
}

// putChecksum writes the checksum of a header into the TLV for it, if there is one.
func putChecksum(header []byte, length int) {
	field := findTLV(header[len(header)-length:], typeCRC32C)
	if len(field) != checksum {
		return
	}
	clear(field)
	binary.BigEndian.PutUint32(field, crc32.Checksum(header, crc32.MakeTable(crc32.Castagnoli)))
}

// findTLV returns the value of the first TLV of a type, or nil.
func findTLV(tlvs []byte, kind byte) []byte {
	for len(tlvs) > 0 {
		found, value, rest, ok := nextTLV(tlvs)
		switch {
		case !ok:
			return nil
		case found == kind:
			return value
		}
		tlvs = rest
	}
	return nil
}

// UniqueID returns the unique id that TLVs have, or nil.
func UniqueID(tlvs []byte) []byte { return findTLV(tlvs, typeUniqueID) }

// AppendUniqueID appends a unique id to TLVs that have none. An id of more than 128 bytes is
// cut.
func AppendUniqueID(tlvs, id []byte) []byte {
	id = id[:min(len(id), maxUniqueID)]
	tlvs = append(tlvs, typeUniqueID, 0, byte(len(id)))
	return append(tlvs, id...)
}
