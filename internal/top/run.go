package top

import (
	"context"
	"sync"
	"time"

	"usher/internal/terminal"
)

const (
	// askTimeout bounds one answer, so that an usher that has stopped is asked again.
	askTimeout = 10 * time.Second
	// doTimeout bounds an action.
	doTimeout = time.Minute
	// maxActions is how many actions wait for usher. Later ones are refused.
	maxActions = 16
	// quitTimeout bounds how long the end waits for actions that were asked for before.
	quitTimeout = 2 * time.Second
	// tick is how often the screen tells how long an answer is late.
	tick = time.Second
)

// Options say what Run shows at first.
type Options struct {
	Service  string        // whose backends; empty: all services
	Interval time.Duration // between two questions
}

// Run shows the usher on the terminal of the process until a key or ctx ends it. The error is that of the terminal.
func Run(ctx context.Context, from Source, o Options, look Look) error {
	t, err := terminal.Open(terminal.Options{Full: true})
	if err != nil {
		return err
	}
	defer t.Close()
	l := &loop{
		terminal: t, screen: terminal.NewScreen(t), from: from, model: NewModel(look, o.Service, o.Interval),
		samples: make(chan Sample), results: make(chan Result), actions: make(chan Action, maxActions),
	}
	ctx, cancel := context.WithCancel(ctx)
	defer l.working.Wait()
	defer cancel()
	l.start(func() { l.act(ctx) })
	t.Guard(func() {
		l.run(ctx)
		l.finish()
	})
	return nil
}

// loop is what Run keeps.
type loop struct {
	terminal *terminal.Terminal
	screen   *terminal.Screen
	from     Source
	model    *Model

	asked    Question
	isAsking bool
	due      time.Time // of the next question
	samples  chan Sample
	results  chan Result // closed when all actions are done
	actions  chan Action // closed when there will be none any more
	working  sync.WaitGroup
}

// start runs f in a goroutine that Run waits for.
func (l *loop) start(f func()) {
	l.working.Go(func() { l.terminal.Guard(f) })
}

// run draws after each event, of which those that wait already are one.
func (l *loop) run(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	l.model.Resize(l.terminal.Size())
	for {
		now := time.Now()
		l.model.Tick(now)
		l.ask(ctx, now)
		// A terminal that is gone ends its keys.
		_ = l.screen.Draw(l.model.Lines())
		var wake <-chan time.Time
		if !l.isAsking && !l.model.isPaused {
			wake = time.After(time.Until(l.due))
		}
		select {
		case key, ok := <-l.terminal.Keys():
			if !ok || !l.press(key) {
				return
			}
		case s := <-l.samples:
			l.isAsking = false
			l.due = s.At.Add(l.model.interval)
			l.model.Take(s)
		case r := <-l.results:
			l.model.Finish(r)
			l.due = time.Now() // to show what has changed
		case <-wake:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// press takes a key and those that wait behind it. It reports whether the screen goes on.
func (l *loop) press(key terminal.Key) bool {
	for {
		if key == terminal.Redraw {
			l.model.Resize(l.terminal.Size())
			l.screen.Forget()
		} else if !l.obey(l.model.Press(key)) {
			return false
		}
		select {
		case next, ok := <-l.terminal.Keys():
			if !ok {
				return false
			}
			key = next
		default:
			return true
		}
	}
}

func (l *loop) obey(actions []Action) bool {
	for _, a := range actions {
		if a.verb == quit {
			return false
		}
		select {
		case l.actions <- a:
		default:
			l.model.refuse("usher is busy: wait for what was asked before")
		}
	}
	return true
}

// ask asks one question at a time: when it is due, or when the screen needs to know something else.
func (l *loop) ask(ctx context.Context, now time.Time) {
	q := l.model.Question()
	if l.isAsking || q == l.asked && (l.model.isPaused || now.Before(l.due)) {
		return
	}
	l.asked, l.isAsking = q, true
	l.model.Asked(now)
	l.start(func() {
		limited, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		s := ask(limited, l.from, q)
		select {
		case l.samples <- s:
		case <-ctx.Done():
		}
	})
}

// act does actions one by one.
func (l *loop) act(ctx context.Context) {
	defer close(l.results)
	for a := range l.actions {
		limited, cancel := context.WithTimeout(ctx, doTimeout)
		r := a.do(limited, l.from)
		cancel()
		select {
		case l.results <- r:
		case <-ctx.Done():
			return
		}
	}
}

// finish waits for actions that keys have asked for before the end.
func (l *loop) finish() {
	close(l.actions)
	late := time.After(quitTimeout)
	for {
		select {
		case _, isMore := <-l.results:
			if !isMore {
				return
			}
		case <-late:
			return
		}
	}
}
