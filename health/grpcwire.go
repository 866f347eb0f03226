package health

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxMessage is more than a health message needs, with its prefix, in bytes.
const maxMessage = 4 << 10

// prefixLen is the size of gRPC's message prefix: a compression flag and a length.
const prefixLen = 5

// frame prefixes an uncompressed message.
func frame(message []byte) []byte {
	framed := make([]byte, prefixLen, prefixLen+len(message))
	binary.BigEndian.PutUint32(framed[1:], uint32(len(message)))
	return append(framed, message...)
}

// unframe returns the one message of a body.
func unframe(body []byte) ([]byte, error) {
	switch {
	case len(body) == 0:
		return nil, errors.New("the reply has no message")
	case len(body) < prefixLen:
		return nil, errors.New("the message is cut short")
	case body[0] != 0:
		return nil, errors.New("the message is compressed, which was not requested")
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

// serviceField is the string field of HealthCheckRequest, statusField the enum field of
// HealthCheckResponse.
const serviceField, statusField = 1, 1

// encodeRequest returns a HealthCheckRequest. It omits an empty service.
func encodeRequest(service string) []byte {
	if service == "" {
		return nil
	}
	return protowire.AppendString(protowire.AppendTag(nil, serviceField, protowire.BytesType), service)
}

// decodeResponse returns the last status of a HealthCheckResponse, zero if there is
// none. It ignores other fields.
func decodeResponse(m []byte) (status int32, err error) {
	for len(m) > 0 {
		field, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			return 0, errProtobuf
		}
		m = m[n:]
		if field == statusField && kind == protowire.VarintType {
			value, n := protowire.ConsumeVarint(m)
			if n < 0 {
				return 0, errProtobuf
			}
			status, m = int32(value), m[n:] // an enum has 32 bits
			continue
		}
		if n = protowire.ConsumeFieldValue(field, kind, m); n < 0 {
			return 0, errProtobuf
		}
		m = m[n:]
	}
	return status, nil
}

var errProtobuf = errors.New("malformed message")

// evaluateServing reads the status of the service.
func evaluateServing(message []byte) error {
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
	return fmt.Errorf("the service has unknown status %d", status)
}
