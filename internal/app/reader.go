package app

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// readerLook is how often stdout is polled for its reader: no write there could fail.
const readerLook = time.Second

// whileRead returns a context that also ends when stdout is a pipe without a reader. So "usher … | head -1" ends. The
// user then has the output, and would not notice that the port is still in use. stderr does not count: a service
// survives the program that keeps its log. release ends the watch.
func whileRead(ctx context.Context, stdout io.Writer, log *zap.Logger) (read context.Context, release func()) {
	f, ok := stdout.(*os.File)
	if !ok {
		return ctx, func() {}
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return ctx, func() {} // of sockets too: a restart of the log's reader may break them
	}
	read, end := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		look := time.NewTicker(readerLook)
		defer look.Stop()
		for !hasNoReader(f) {
			select {
			case <-look.C:
			case <-read.Done():
				return
			}
		}
		log.Warn("stdout has no reader")
		end()
	})
	return read, func() { end(); watch.Wait() }
}
