package terminal

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"time"
)

const (
	// escapeWait is how long the rest of a sequence may take after its Esc. Terminals send it in one piece.
	escapeWait = 50 * time.Millisecond
	// lookAgain is the time between two looks at what no signal tells: whether the program is in the foreground again,
	// and on Windows the size.
	lookAgain = 250 * time.Millisecond
	// writeTimeout bounds a write to a terminal that has stalled.
	writeTimeout = 5 * time.Second
	// lastWrite bounds the one that puts it back.
	lastWrite = time.Second
	// maxKeys is how many keys wait for the program. Later ones are lost.
	maxKeys = 256
)

// Errors of Open.
var (
	ErrNone       = errors.New("there is no terminal")
	ErrBackground = errors.New("the program runs in the background")
)

// Options say what Open sets up.
type Options struct {
	// Full shows the alternate screen, without a cursor. Without it only keys are read.
	Full bool
	// HandlesSignals says that the program catches SIGINT, SIGTERM and SIGHUP itself. They end the keys all the same.
	// Without it they end the program.
	HandlesSignals bool
}

// Terminal is the terminal of the process. Its methods are safe for concurrent use.
type Terminal struct {
	options Options
	device  *device
	keys    chan Key

	mu    sync.Mutex // guards what follows, and writes to the device
	isSet bool       // the terminal is as the program wants it
	turns int        // how often it has been made so
	isEnd bool       // it has been put back for good

	closing chan struct{}
	close   sync.Once
	running sync.WaitGroup
}

// Open sets up the terminal of the process. The error is ErrNone, ErrBackground or that of the system.
func Open(o Options) (*Terminal, error) {
	d, err := openDevice()
	if err != nil {
		return nil, err
	}
	if !d.isForeground() {
		d.release()
		return nil, ErrBackground
	}
	t := &Terminal{options: o, device: d, keys: make(chan Key), closing: make(chan struct{})}
	signals := make(chan os.Signal, 16)
	catch(signals)
	if err := t.setUp(true); err != nil {
		signal.Stop(signals)
		d.release()
		return nil, err
	}
	t.running.Go(func() { t.Guard(func() { t.run(signals) }) })
	return t, nil
}

// catch has signals caught, but for those that are ignored already, as nohup does.
func catch(signals chan os.Signal) {
	for _, sig := range slices.Concat(endSignals, jobSignals) {
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
}

// Keys are the keys that are pressed, and Redraw. They end when the terminal has been put back or is gone.
func (t *Terminal) Keys() <-chan Key { return t.keys }

// Size returns the size of the screen in cells.
func (t *Terminal) Size() (width, height int) { return t.device.size() }

// Write writes to the screen. While the program is in the background, a full screen is not shown.
func (t *Terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.isEnd:
		return 0, io.ErrClosedPipe
	case !t.isSet && t.options.Full:
		return len(p), nil
	}
	return t.device.write(p, writeTimeout)
}

// Close puts the terminal back as it was, and ends the keys. It may be called more than once.
func (t *Terminal) Close() {
	t.close.Do(func() {
		t.device.interruptWrite()
		close(t.closing)
		t.putBack(true)
		t.running.Wait()
		t.device.release()
	})
}

// Guard runs f. If f panics, it puts the terminal back first, so that the stack trace can be read. Every goroutine of a
// program with a full screen runs so.
func (t *Terminal) Guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			t.putBack(true)
			panic(p)
		}
	}()
	f()
}

// setUp makes the terminal what the options want. With remember its state of now is that to put back.
func (t *Terminal) setUp(remember bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isEnd {
		return nil
	}
	if err := t.device.makeRaw(remember); err != nil {
		return err
	}
	t.isSet = true
	t.turns++
	if t.options.Full {
		_, err := t.device.write([]byte(enterScreen), writeTimeout)
		return err
	}
	return nil
}

// putBack makes the terminal what it was before, for good or until the next setUp.
func (t *Terminal) putBack(forGood bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.isEnd = t.isEnd || forGood
	if !t.isSet {
		return
	}
	t.isSet = false
	if t.options.Full {
		// Others notice a terminal that is gone.
		_, _ = t.device.write([]byte(leaveScreen), lastWrite)
	}
	t.device.restore()
}

// giveUp leaves the terminal as it is: it is another program's now.
func (t *Terminal) giveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.isSet = false
}

// Turn returns how often the program has come to the foreground, and 0 while it is not there. Between two turns somebody
// else may have written to the screen. The last turn outlasts Close.
func (t *Terminal) Turn() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.isSet && !t.isEnd {
		return 0
	}
	return t.turns
}

// isInUse reports whether the terminal is as the program wants it.
func (t *Terminal) isInUse() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.isSet
}

// run passes keys on and obeys signals, until Close, a signal that ends the program, or the end of the terminal.
func (t *Terminal) run(signals chan os.Signal) {
	defer close(t.keys)
	defer signal.Stop(signals)
	l := loop{Terminal: t, reader: reader{device: t.device}, signals: signals}
	l.width, l.height = t.device.size()
	l.reader.start()
	defer l.reader.stop()
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for {
		var out chan<- Key
		next := Redraw
		if len(l.queue) > 0 {
			out, next = t.keys, l.queue[0]
		}
		select {
		case out <- next:
			l.queue = l.queue[1:]
		case chunk, ok := <-l.reader.chunks:
			if !ok { // the terminal is gone
				return
			}
			l.take(chunk)
		case <-l.late:
			l.late = nil
			l.push(l.decoder.flush()...)
		case sig := <-signals:
			switch {
			case slices.Contains(endSignals, sig):
				l.endBy(sig)
				return
			case isStopSignal(sig):
				l.suspend(thisProcess)
			default:
				l.look(isContinueSignal(sig))
			}
		case <-look.C:
			l.look(false)
		case <-t.closing:
			return
		}
	}
}
