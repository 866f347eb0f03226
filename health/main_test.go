package health_test

import (
	"bytes"
	"fmt"
	stdlog "log"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/health"
)

func TestMain(m *testing.M) {
	// Checks of kind exec run this binary as a program.
	if len(os.Args) > 2 && os.Args[1] == asProgram {
		program(os.Args[2:])
		return
	}
	goleak.VerifyTestMain(withoutLeaks{m})
}

// withoutLeaks fails a run that leaves descriptors, or lines in the log of the process.
type withoutLeaks struct{ m *testing.M }

func (w withoutLeaks) Run() int {
	// With the first socket, the runtime's poller opens descriptors.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
	before := descriptors()
	// Errors describe what targets do; no package may log it.
	var said bytes.Buffer
	stdlog.SetOutput(&said)
	code := w.m.Run()
	stdlog.SetOutput(os.Stderr)
	if said.Len() > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d bytes in the log of the process: %.200q\n", said.Len(), said.Bytes())
		code = 1
	}
	// The fuzzer's workers have pipes to their coordinator.
	if !eventually(func() bool { return descriptors() <= before }) && code == 0 && !fuzzing() {
		fmt.Fprintf(os.Stderr, "%d descriptors are open after the tests, %d were before\n", descriptors(), before)
		code = 1
	}
	return code
}

// gone is a target without a listener. No other test gets its port.
var gone = health.Target{Name: "gone", Network: "tcp", Address: "127.0.0.1:1"}

// descriptors counts those of this process, 0 where the system does not say.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// eventually waits up to a minute for a condition.
func eventually(holds func() bool) bool {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if holds() {
			return true
		}
	}
	return holds()
}
