package health_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"usher/health"
)

// Frames of HTTP/2 (RFC 9113, 6) that a hostile server may send.
const (
	frameData, frameHeaders, frameReset, frameSettings        = 0, 1, 3, 4
	framePush, framePing, frameGoAway, frameWindow, frameMore = 5, 6, 7, 8, 9

	flagEndStream, flagEndHeaders = 1, 4
)

func http2Frame(kind, flags byte, stream uint32, payload string) []byte {
	frame := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(frame, stream), payload...)
}

// speakFrames is a server that reads a call, sends first once, and again without end.
func speakFrames(first, again []byte) func(net.Conn) {
	return func(conn net.Conn) {
		if !readCall(conn) {
			return
		}
		if _, err := conn.Write(slices.Concat(http2Frame(frameSettings, 0, 0, ""), first)); err != nil {
			return
		}
		if len(again) > 0 {
			flood(conn, slices.Repeat(again, 1+8192/len(again)))
		}
		hear(conn)
	}
}

// readCall reads the preface and the frames up to the headers of a call.
func readCall(conn net.Conn) bool {
	b := make([]byte, 64<<10)
	if _, err := io.ReadFull(conn, b[:24]); err != nil {
		return false
	}
	for {
		if _, err := io.ReadFull(conn, b[:9]); err != nil {
			return false
		}
		kind, size := b[3], int(b[1])<<8|int(b[2])
		if _, err := io.ReadFull(conn, b[:size]); err != nil {
			return false
		}
		if kind == frameHeaders {
			return true
		}
	}
}

// HPACK blocks (RFC 7541): fields of the static table, and one in the dynamic table that
// each byte 0xbe repeats.
var (
	good200   = "\x88" + literal("content-type", "application/grpc")
	bomb      = "\x88\x40\x01x\x7f\xa1\x1e" + strings.Repeat("y", 4000) + strings.Repeat("\xbe", 12_000)
	trailers0 = literal("grpc-status", "0")
)

// literal returns a field that is not indexed, with texts shorter than 127.
func literal(name, value string) string {
	return "\x00" + string(rune(len(name))) + name + string(rune(len(value))) + value
}

func TestGRPCFrames(t *testing.T) {
	t.Parallel()
	message := "\x00\x00\x00\x00\x02" + serving
	head := http2Frame(frameHeaders, flagEndHeaders, 1, good200)
	data := http2Frame(frameData, 0, 1, message)
	end := http2Frame(frameHeaders, flagEndHeaders|flagEndStream, 1, trailers0)
	odd := slices.Concat(http2Frame(0xc, 0, 0, "\x00\x0bhttps://a.b"), http2Frame(0xff, 0xff, 1<<31|1, ""), http2Frame(10, 0, 1, strings.Repeat("\x00", 16<<10)))
	for _, tt := range []struct {
		name         string
		first, again []byte
		waits        bool
		want         string
	}{
		{name: "frames of extensions between", first: slices.Concat(odd, head, odd, data, odd, odd, end)},
		{name: "half a frame of an extension", first: odd[:20], waits: true, want: "in time"},
		{name: "as it should be", first: slices.Concat(head, data, end)},
		{name: "good, and then pings without end", first: slices.Concat(head, data, end), again: http2Frame(framePing, 0, 0, "12345678")},
		{name: "pings without end", again: http2Frame(framePing, 0, 0, "12345678"), want: "256 KiB"},
		{name: "settings without end", again: http2Frame(frameSettings, 0, 0, "\x00\x04\x00\x00\xff\xff"), want: "256 KiB"},
		{name: "windows without end", again: http2Frame(frameWindow, 0, 0, "\x00\x00\x00\x01"), want: "256 KiB"},
		{name: "a window too large", again: http2Frame(frameWindow, 0, 0, "\x7f\xff\xff\xff"), want: "ask "},
		{name: "frames of no kind", again: http2Frame(0x77, 0, 0, "x"), want: "256 KiB"},
		{name: "empty data without end", first: head, again: http2Frame(frameData, 0, 1, ""), want: "ask "},
		{name: "data without end", first: head, again: http2Frame(frameData, 0, 1, strings.Repeat("x", 1000)), want: "longer than 4096 bytes"},
		{name: "interim replies without end", again: http2Frame(frameHeaders, flagEndHeaders, 1, "\x08\x03103"), want: "ask "},
		{name: "headers without end", first: http2Frame(frameHeaders, 0, 1, good200), again: http2Frame(frameMore, 0, 1, literal("x", strings.Repeat("y", 100))), want: "ask "},
		{name: "empty headers without end", first: http2Frame(frameHeaders, 0, 1, good200), again: http2Frame(frameMore, 0, 1, ""), want: "256 KiB"},
		{name: "a bomb of headers", first: http2Frame(frameHeaders, flagEndHeaders|flagEndStream, 1, bomb), want: "ask "},
		{name: "a bomb of trailers", first: slices.Concat(head, data, http2Frame(frameHeaders, flagEndHeaders|flagEndStream, 1, bomb[1:])), want: "ask "},
		{name: "no such entry", first: http2Frame(frameHeaders, flagEndHeaders|flagEndStream, 1, "\xff\x80\x80\x80\x80\x08"), want: "ask "},
		{name: "a giant frame", first: []byte{0xff, 0xff, 0xff, frameData, 0, 0, 0, 0, 1}, want: "ask "},
		{name: "another stream", first: http2Frame(frameHeaders, flagEndHeaders, 3, good200), waits: true, want: "in time"},
		{name: "a push", first: http2Frame(framePush, flagEndHeaders, 1, "\x00\x00\x00\x02"+good200), want: "ask "},
		{name: "goes away", first: http2Frame(frameGoAway, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x0b"+"calm down"), want: "ask "},
		{name: "resets the stream", first: http2Frame(frameReset, 0, 1, "\x00\x00\x00\x07"), want: "REFUSED_STREAM"},
		{name: "resets the stream in the middle", first: slices.Concat(head, http2Frame(frameReset, 0, 1, "\x00\x00\x00\x08")), want: "ask "},
		{name: "no trailers", first: slices.Concat(head, http2Frame(frameData, flagEndStream, 1, message)), want: "no grpc-status"},
		{name: "half a frame", first: head[:7], waits: true, want: "in time"},
		{name: "a head and silence", first: head, waits: true, want: "in time"},
		{name: "a message and silence", first: slices.Concat(head, data), waits: true, want: "in time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, target := listen(t, "tcp")
			serveConns(t, ln, speakFrames(tt.first, tt.again))
			expectCheck(t, newGRPC(t, health.GRPCOptions{}), target, tt.waits, tt.want)
		})
	}
}

// A reply that is small on the wire and huge when decoded costs little.
func TestGRPCBombIsNotUnpacked(t *testing.T) {
	ln, target := listen(t, "tcp")
	serveConns(t, ln, speakFrames(http2Frame(frameHeaders, flagEndHeaders|flagEndStream, 1, bomb), nil))
	c := newGRPC(t, health.GRPCOptions{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := check(t, c, target, false)
	runtime.ReadMemStats(&after)
	expectError(t, err, "ask ")
	if n := (after.TotalAlloc - before.TotalAlloc) >> 10; n > 2048 {
		t.Errorf("%d KiB are allocated for a check, want less than 2 MiB", n)
	}
}

// Extension frames change nothing, and no input makes a check panic.
func FuzzGRPCReply(f *testing.F) {
	settings := http2Frame(frameSettings, 0, 0, "")
	head := http2Frame(frameHeaders, flagEndHeaders, 1, good200)
	data := http2Frame(frameData, 0, 1, "\x00\x00\x00\x00\x02"+serving)
	end := http2Frame(frameHeaders, flagEndHeaders|flagEndStream, 1, trailers0)
	odd := http2Frame(0xc, 0, 1, "an extension")
	f.Add(slices.Concat(settings, head, data, end))
	f.Add(slices.Concat(settings, head, http2Frame(frameReset, 0, 1, "\x00\x00\x00\x08")))
	f.Add(slices.Concat(head, http2Frame(frameHeaders, 0, 1, good200), http2Frame(frameMore, 0, 1, ""), end))
	f.Add(slices.Concat(settings, http2Frame(frameGoAway, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x0b"), data))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		plain := health.ReadGRPCReply(bytes.NewReader(wire))
		if got := health.ReadGRPCReply(iotest.OneByteReader(bytes.NewReader(slices.Concat(odd, wire)))); fmt.Sprint(got) != fmt.Sprint(plain) {
			t.Errorf("with an extension: %v, without: %v", got, plain)
		}
	})
}
