package main

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

func startInTerminal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: terminal NAME WORD...")
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	ts.Check(err)
	raw, err := master.SyscallConn() // Fd would make reads block, and a close wait for them
	ts.Check(err)
	n := 0
	ts.Check(raw.Control(func(fd uintptr) {
		if n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err == nil {
			err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		}
	}))
	ts.Check(err)
	read := record(ts, args[0], master)
	ts.Defer(func() { _ = master.Close() })
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	ts.Check(err)
	defer slave.Close()
	cmd := commandOf(ts, "usher", args[1:])
	cmd.Env = append(cmd.Env, "TERM="+ts.Getenv("TERM"), "NO_COLOR="+ts.Getenv("NO_COLOR"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	stageOf(ts).closers[args[0]] = master
	launch(ts, args[0], cmd).read = read
}

func press(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: press NAME [KEYS]")
	}
	terminal, ok := stageOf(ts).closers[args[0]].(*os.File)
	if !ok {
		ts.Fatalf("%s has no terminal", args[0])
	}
	keys := "\x03"
	if len(args) == 2 {
		keys = args[1]
	}
	_, err := io.WriteString(terminal, keys)
	ts.Check(err)
}
