package proxy

import (
	"net"
	"testing"
	"time"
)

func TestUnread(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	from := dial(t, ln.Addr().String())
	to, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if connUnread(to) {
		t.Error("there is something to read before anything was sent")
	}
	if _, err := from.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it arrives", func() bool { return connUnread(to) })
	_, _ = to.Read(make([]byte, 1))
	from.CloseWrite()
	_ = to.SetReadDeadline(time.Now().Add(time.Minute))
	if n, _ := to.Read(make([]byte, 1)); n != 0 || connUnread(to) {
		t.Error("a FIN counts as a byte")
	}
}
