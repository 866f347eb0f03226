package app

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	// mostPending is how many bytes may wait for a slow reader of the log.
	mostPending = 4 << 20
	// lastFlush is how long the end of the program waits for that reader.
	lastFlush = time.Second
	// atomicWrite is how much one write to a pipe passes unbroken between other writers. It is PIPE_BUF of Linux, the
	// smallest of the supported systems; POSIX grants 512.
	atomicWrite = 4096
	// flushLook is how often flush looks.
	flushLook = time.Millisecond
)

// asyncWriter passes whole lines to a writer that may stall, such as a pipe without a reader. It never waits for it:
// lines beyond mostPending are dropped and counted. Its methods may be called by any goroutine.
type asyncWriter struct {
	out    io.Writer
	lost   func(lines uint64) []byte // what to write in place of dropped lines; nil: nothing
	failed func(error)               // called for each write that fails; nil: not called

	mu      sync.Mutex
	pending []byte
	dropped uint64 // lines after pending
	lostAll uint64 // lines dropped so far
	closed  bool

	isWriting bool // lines that are not pending any more

	news chan struct{} // there is something pending; closed by close
	done chan struct{} // closed when all is written after close
}

func newAsyncWriter(out io.Writer, lost func(uint64) []byte, failed func(error)) *asyncWriter {
	w := &asyncWriter{out: out, lost: lost, failed: failed, news: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run() // close waits for it
	return w
}

// Write takes one or more lines and returns at once.
func (w *asyncWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, io.ErrClosedPipe
	}
	if w.dropped > 0 || len(w.pending) > 0 && len(w.pending)+len(p) > mostPending {
		n := uint64(bytes.Count(p, []byte("\n")))
		w.dropped += n
		w.lostAll += n
		return len(p), nil
	}
	w.pending = append(w.pending, p...)
	select {
	case w.news <- struct{}{}:
	default:
	}
	return len(p), nil
}

// lostLines returns how many lines were dropped so far.
func (w *asyncWriter) lostLines() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lostAll
}

// run writes what is pending until close.
func (w *asyncWriter) run() {
	defer close(w.done)
	for range w.news {
		for {
			w.mu.Lock()
			batch, lost := w.pending, w.dropped
			w.pending, w.dropped, w.isWriting = nil, 0, len(batch) > 0
			w.mu.Unlock()
			if len(batch) == 0 {
				break
			}
			w.pass(batch)
			if lost > 0 && w.lost != nil {
				w.pass(w.lost(lost))
			}
		}
	}
}

// flush waits until what came before is written, but no longer than most.
func (w *asyncWriter) flush(most time.Duration) {
	late := time.After(most)
	for {
		w.mu.Lock()
		isDone := len(w.pending) == 0 && !w.isWriting
		w.mu.Unlock()
		if isDone {
			return
		}
		select {
		case <-late:
			return
		case <-time.After(flushLook):
		}
	}
}

// pass writes lines in pieces that other writers to the same pipe do not break.
func (w *asyncWriter) pass(lines []byte) {
	for len(lines) > 0 {
		end := len(lines)
		if end > atomicWrite {
			end = 1 + bytes.LastIndexByte(lines[:atomicWrite], '\n')
		}
		if end == 0 { // a long line
			end = 1 + bytes.IndexByte(lines, '\n')
		}
		if end == 0 {
			end = len(lines)
		}
		if _, err := w.out.Write(lines[:end]); err != nil && w.failed != nil {
			w.failed(err)
		}
		lines = lines[end:]
	}
}

// close waits until all is written, but no longer than lastFlush. A write that still hangs goes on until the process
// ends or the reader reads. Later writes are lost.
func (w *asyncWriter) close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.news)
	}
	w.mu.Unlock()
	select {
	case <-w.done:
	case <-time.After(lastFlush):
	}
}
