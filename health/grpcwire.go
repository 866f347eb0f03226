package health

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxMessage is more than a message of the health protocol needs, with its prefix.
const maxMessage = 4 << 10

// prefixLen is that of gRPC's frame: a flag for compression and a length.
const prefixLen = 5

// frame puts gRPC's prefix before a message that is not compressed.
func frame(message []byte) []byte {
	framed := make([]byte, prefixLen, prefixLen+len(message))
	binary.BigEndian.PutUint32(framed[1:], uint32(len(message)))
	return append(framed, message...)
}

// unframe takes the one message out of a body.
func unframe(body []byte) ([]byte, error) {
	switch {
	case len(body) == 0:
		return nil, errors.New("the reply has no message")
	case len(body) < prefixLen:
		return nil, errors.New("the message is cut short")
	case body[0] != 0:
		return nil, errors.New("the message is compressed, which was not asked for")
	}
	size := binary.BigEndian.Uint32(body[1:])
	switch rest := body[prefixLen:]; {
	case uint64(size) > uint64(len(rest)):
		return nil, errors.New("the message is cut short")
	case uint64(size) < uint64(len(rest)):
		return nil, errors.New("the reply has more than one message")
	default:
		return rest, nil
	}
}

// The wire types of protocol buffers. Groups (3 and 4) are not used in the protocol,
// and what is 6 or 7 is not defined.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

// encodeRequest is a HealthCheckRequest: string service = 1, left out when empty.
func encodeRequest(service string) []byte {
	if service == "" {
		return nil
	}
	m := []byte{1<<3 | wireBytes}
	m = binary.AppendUvarint(m, uint64(len(service)))
	return append(m, service...)
}

var errProtobuf = errors.New("malformed message")

// decodeResponse returns the status of a HealthCheckResponse: enum status = 1, zero if
// it is not there, the last one if it is there again. Other fields are passed over.
func decodeResponse(m []byte) (status int32, err error) {
	for len(m) > 0 {
		key, n := binary.Uvarint(m)
		if n <= 0 || key>>3 == 0 || key>>3 >= 1<<29 {
			return 0, errProtobuf
		}
		m = m[n:]
		size := uint64(0)
		switch key & 7 {
		case wireVarint:
			value, n := binary.Uvarint(m)
			if n <= 0 {
				return 0, errProtobuf
			}
			if key>>3 == 1 {
				status = int32(value) // an enum is what its low 32 bits say
			}
			size = uint64(n)
		case wire64:
			size = 8
		case wire32:
			size = 4
		case wireBytes:
			length, n := binary.Uvarint(m)
			if n <= 0 {
				return 0, errProtobuf
			}
			m, size = m[n:], length
		default:
			return 0, errProtobuf
		}
		if size > uint64(len(m)) {
			return 0, errProtobuf
		}
		m = m[size:]
	}
	return status, nil
}

// judgeServing reads what the message says of the service.
func judgeServing(message []byte) error {
	status, err := decodeResponse(message)
	switch {
	case err != nil:
		return err
	case status == 1:
		return nil
	case status == 0:
		return errors.New("the service is UNKNOWN")
	case status == 2:
		return errors.New("the service is NOT_SERVING")
	case status == 3:
		return errors.New("the service is SERVICE_UNKNOWN")
	}
	return fmt.Errorf("the service has status %d, which is none of the protocol's", status)
}
