package admin

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// askAs sends a request over the socket at path as another user, and returns the beginning of the answer. The user is that
// of a thread which ends afterwards.
func askAs(uid uintptr, path string) (text string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); e != 0 {
			err = e
			return
		}
		var fd int
		if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(fd)
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return
		}
		answer := make([]byte, 4096)
		var n int
		n, err = unix.Read(fd, answer) // before a request
		text = string(answer[:n])
	}()
	<-done
	return text, err
}

// TestRealOtherUser: the socket's mode keeps others out, and where that was changed the user of the peer does.
func TestRealOtherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can act as another user")
	}
	const nobody = 65534
	folder := shortFolder(t)
	for _, path := range []string{filepath.Dir(folder), folder} {
		_ = os.Mkdir(path, 0o755)
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l, err := ListenPath(filepath.Join(folder, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(l, newFake().handler(), zap.NewNop())
	defer s.Close(timeout(t))
	path := l.Addr().String()
	text, err := askAs(nobody, path)
	if err == unix.EPERM || err == unix.EINVAL {
		t.Skip("this root cannot act as another user:", err)
	}
	if err != unix.EACCES {
		t.Errorf("over a socket of mode 0600: %q, error %v", text, err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	text, err = askAs(nobody, path)
	if err != nil || !strings.HasPrefix(text, "HTTP/1.1 403 Forbidden\r\n") ||
		!strings.HasSuffix(text, `{"error":"this usher is of user 0, and the request of user 65534: only that user and root may ask it"}`+"\n") {
		t.Errorf("over a socket of mode 0666: %q, error %v", text, err)
	}
}
