package terminal

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// loop is what the goroutine of a Terminal keeps.
type loop struct {
	*Terminal
	reader  reader
	signals chan os.Signal

	decoder decoder
	late    <-chan time.Time // when the rest of a sequence will not come any more; nil: nothing is kept back
	queue   []Key            // that the program has not taken yet

	width, height int
}

func (l *loop) push(keys ...Key) {
	l.queue = append(l.queue, keys...)
	l.queue = l.queue[:min(len(l.queue), maxKeys)]
}

// take takes input.
func (l *loop) take(chunk []byte) {
	keys, isPartial := l.decoder.feed(chunk)
	if l.late = nil; isPartial {
		l.late = time.After(escapeWait)
	}
	for _, key := range keys {
		if key == CtrlZ && canSuspend {
			l.suspend(wholeGroup)
		} else {
			l.push(key)
		}
	}
}

// look notices a new size and a change between foreground and background. After a SIGCONT, which may follow an unseen
// SIGSTOP, the terminal is set up anew.
func (l *loop) look(isContinued bool) {
	isNew := false
	switch {
	case !l.device.isForeground():
		l.reader.stop() // to read would stop the process
		l.giveUp()
	case isContinued || !l.isInUse():
		isNew = l.setUp(!l.isInUse()) == nil
	}
	if l.isInUse() {
		l.reader.start()
	}
	width, height := l.device.size()
	if isNew || width != l.width || height != l.height {
		l.width, l.height = width, height
		l.push(Redraw)
	}
}

// suspend puts the terminal back and stops the process, or its group, until it is continued.
func (l *loop) suspend(whom target) {
	l.reader.stop()
	l.putBack(false)
	stopProcess(whom)
	l.look(true)
}

// endBy puts the terminal back, and then lets a signal have the effect that it has without this package.
func (l *loop) endBy(sig os.Signal) {
	l.putBack(true)
	signal.Stop(l.signals)
	if !l.options.HandlesSignals || sig == dumpSignal {
		raise(sig.(syscall.Signal))
	}
}
