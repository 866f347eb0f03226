package terminal

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = time.Minute

// TestMain is also the program of the tests: it says which keys come.
func TestMain(m *testing.M) {
	if os.Getenv("USHER_TERMINAL") == "" {
		os.Exit(m.Run())
	}
	t, err := Open(Options{Full: true, HandlesSignals: os.Getenv("USHER_TERMINAL") == "handles"})
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	defer t.Close()
	t.Guard(func() {
		fmt.Fprintln(t, "ready")
		for key := range t.Keys() {
			switch key {
			case Redraw:
				width, height := t.Size()
				fmt.Fprintf(t, "size %d %d\n", width, height)
			case 'p':
				panic("as wanted")
			case 'q':
				return
			default:
				fmt.Fprintf(t, "key %d\n", key)
			}
		}
		time.Sleep(100 * time.Millisecond) // so that a signal that should have ended it would show
	})
}

// screen is a terminal with the program of the tests in it.
type screen struct {
	t             *testing.T
	master, slave *os.File
	cmd           *exec.Cmd
	before        unix.Termios
	mu            sync.Mutex
	output        strings.Builder
	reading       sync.WaitGroup
}

func termios(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	got, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *got
}

func openScreen(t *testing.T, variable string) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	s := &screen{t: t, master: master}
	control(t, master, func(fd int) error {
		n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
		if err == nil {
			err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
		}
		if err == nil {
			s.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
		}
		return err
	})
	s.before = termios(t, s.slave)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(self)
	s.cmd.Env = append(os.Environ(), "USHER_TERMINAL="+variable)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = s.slave, s.slave, s.slave
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.reading.Go(func() {
		var buffer [4096]byte
		for {
			n, err := master.Read(buffer[:])
			if err != nil {
				return
			}
			s.mu.Lock()
			s.output.Write(buffer[:n])
			s.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.slave.Close()
		s.master.Close()
		s.reading.Wait()
	})
	return s
}

func control(t *testing.T, f *os.File, do func(fd int) error) {
	t.Helper()
	conn, err := f.SyscallConn() // Fd would make reads block, and Close wait for them
	if err != nil {
		t.Fatal(err)
	}
	if controlled := conn.Control(func(fd uintptr) { err = do(int(fd)) }); controlled != nil || err != nil {
		t.Fatal(controlled, err)
	}
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.String()
}

func (s *screen) await(pattern string) {
	s.t.Helper()
	wanted := regexp.MustCompile("(?s)" + pattern)
	for deadline := time.Now().Add(patience); !wanted.MatchString(s.text()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("no %q in %q", pattern, s.text())
		}
	}
}

func (s *screen) press(keys string) {
	s.t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

const (
	setUpText   = `\x1b\[\?1049h`
	putBackText = `\x1b\[\?1049l`
)

// TestTerminalIsPutBack: however the program ends, the terminal is as it was before.
func TestTerminalIsPutBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, variable, keys string
		signal               syscall.Signal
		exit                 string // of the program
		after                string // what it says last
	}{
		{name: "close", variable: "1", keys: "q"},
		{name: "panic", variable: "1", keys: "p", exit: "exit status 2", after: `panic: as wanted.*goroutine`},
		{name: "SIGINT", variable: "1", signal: unix.SIGINT, exit: "signal: interrupt"},
		{name: "SIGTERM", variable: "1", signal: unix.SIGTERM, exit: "signal: terminated"},
		{name: "SIGHUP", variable: "1", signal: unix.SIGHUP, exit: "signal: hangup"},
		{name: "SIGQUIT", variable: "handles", signal: unix.SIGQUIT, exit: "exit status 2", after: `SIGQUIT: quit.*goroutine`},
		{name: "a signal that it waits for", variable: "handles", signal: unix.SIGTERM},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := openScreen(t, tt.variable)
			s.await("ready")
			if raw := termios(t, s.slave); raw.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 || raw.Oflag&unix.OPOST == 0 {
				t.Errorf("the terminal is not raw: %+v", raw)
			}
			s.press(tt.keys)
			if tt.signal != 0 {
				if err := s.cmd.Process.Signal(tt.signal); err != nil {
					t.Fatal(err)
				}
			}
			exit := ""
			if err := s.cmd.Wait(); err != nil {
				exit = err.Error()
			}
			if exit != tt.exit {
				t.Errorf("it ended with %q, want %q", exit, tt.exit)
			}
			s.await(putBackText + ".*" + tt.after)
			if got := termios(t, s.slave); got != s.before {
				t.Errorf("the terminal is %+v, was %+v", got, s.before)
			}
		})
	}
}

// TestTerminalKeys: keys arrive one by one, a lone Esc too; a new size and a stop have the screen drawn again.
func TestTerminalKeys(t *testing.T) {
	t.Parallel()
	s := openScreen(t, "1")
	s.await(setUpText + ".*ready")
	s.press("a\x1b[A")
	s.await(fmt.Sprintf("key %d\r\nkey %d\r\n", 'a', Up))
	s.press("\x1b")
	s.await(fmt.Sprintf("key %d\r\n", Esc))
	control(t, s.master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 11, Col: 33})
	})
	s.await("size 33 11\r\n")
	// Nobody could continue the first process of a session, so that it goes on at once. usher top is stopped for real.
	s.press("\x1a")
	s.await(putBackText + ".*" + setUpText + ".*size 33 11\r\n")
	if err := s.cmd.Process.Signal(unix.SIGTSTP); err != nil {
		t.Fatal(err)
	}
	s.await(strings.Repeat(putBackText+".*"+setUpText+".*", 2) + "size 33 11\r\n")
	// A terminal that goes away ends it, by the end of the keys or by SIGHUP.
	s.slave.Close()
	s.master.Close()
	_ = s.cmd.Wait()
}
