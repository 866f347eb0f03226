package health

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// callStream is the one stream of a connection.
const callStream = 1

// grpcCall is a unary call over HTTP/2 (RFC 9113) on a new connection. It reads frames
// itself: net/http logs each frame that it does not know, and a hostile server could
// send thousands.
type grpcCall struct {
	framer     *http2.Framer
	out        *bufio.Writer
	header     http.Header // nil: no reply yet
	trailer    http.Header
	body       []byte
	isFinished bool // the stream has ended
}

// startGRPCCall sends the preface, the settings and a whole request.
func startGRPCCall(conn net.Conn, scheme, authority string, body []byte) (*grpcCall, error) {
	out := bufio.NewWriter(conn)
	c := &grpcCall{out: out, framer: http2.NewFramer(out, bufio.NewReader(conn))}
	c.framer.SetMaxReadFrameSize(16 << 10) // the default of RFC 9113, which stays in force
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4<<10, nil)
	c.framer.MaxHeaderListSize = maxHeaders

	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", http.MethodPost}, {":scheme", scheme}, {":authority", authority}, {":path", healthMethod},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"user-agent", userAgent},
	} {
		_ = fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // a Buffer never fails
	}
	// A bufio.Writer keeps its first error for Flush.
	_, _ = out.WriteString(http2.ClientPreface)
	_ = c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxHeaders})
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: callStream, BlockFragment: block.Bytes(), EndHeaders: true})
	_ = c.framer.WriteData(callStream, true, body)
	return c, out.Flush()
}

// finish reads until the reply is complete.
func (c *grpcCall) finish() error {
	for !c.isFinished {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		if err := c.onFrame(frame); err != nil {
			return err
		}
	}
	return nil
}

// onFrame ignores frames of extensions (RFC 9113, 5.5).
func (c *grpcCall) onFrame(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			_ = c.framer.WriteSettingsAck()
			return c.out.Flush()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			_ = c.framer.WritePing(true, f.Data)
			return c.out.Flush()
		}
	case *http2.GoAwayFrame:
		if f.LastStreamID < callStream {
			return fmt.Errorf("the server goes away: %v %s", f.ErrCode, excerpt(f.DebugData()))
		}
	case *http2.PushPromiseFrame:
		return errors.New("a pushed reply, which was not requested")
	}
	if frame.Header().StreamID != callStream {
		return nil
	}
	switch f := frame.(type) {
	case *http2.RSTStreamFrame:
		return fmt.Errorf("the server ended the call: %v", f.ErrCode)
	case *http2.MetaHeadersFrame:
		return c.onHeaders(f)
	case *http2.DataFrame:
		if c.header == nil {
			return errors.New("data before the headers of a reply")
		}
		if c.body = append(c.body, f.Data()...); len(c.body) > maxMessage {
			return fmt.Errorf("the reply is longer than %d bytes", maxMessage)
		}
		c.isFinished = f.StreamEnded()
	}
	return nil
}

// onHeaders reads the headers of the reply, or its trailers.
func (c *grpcCall) onHeaders(f *http2.MetaHeadersFrame) error {
	if f.Truncated {
		return fmt.Errorf("headers of more than %d KiB", maxHeaders>>10)
	}
	fields := make(http.Header)
	for _, field := range f.RegularFields() {
		fields.Add(field.Name, field.Value)
	}
	c.isFinished = f.StreamEnded()
	if c.header != nil {
		if !c.isFinished {
			return errors.New("headers in the middle of the reply")
		}
		c.trailer = fields
		return nil
	}
	code, err := strconv.ParseUint(f.PseudoValue("status"), 10, 10)
	switch {
	case err != nil:
		return fmt.Errorf("malformed HTTP status %s", excerpt([]byte(f.PseudoValue("status"))))
	case code >= 100 && code < 200 && !c.isFinished:
		return nil // an interim reply
	case code != http.StatusOK:
		return fmt.Errorf("HTTP status %d, not a gRPC server's", code)
	}
	if kind := fields.Get("Content-Type"); !isGRPC(kind) {
		return fmt.Errorf("content type %s, not a gRPC server's", excerpt([]byte(kind)))
	}
	c.header = fields
	return nil
}
