package cluster

import (
	"context"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
)

// stream passes the events of a watch on. It reports those that are errors, and leaves out objects of another kind.
type stream struct {
	in     watch.Interface
	out    chan watch.Event
	source *source
	ctx    context.Context
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// newStream begins to pass events on, until ctx ends. It is that of the request, and cancel ends it.
func newStream(ctx context.Context, cancel context.CancelFunc, in watch.Interface, s *source) *stream {
	w := &stream{ctx: ctx, cancel: cancel, in: in, out: make(chan watch.Event), source: s}
	w.ended.Go(func() {
		defer cancel()
		defer in.Stop()
		defer close(w.out)
		w.pass()
	})
	return w
}

// ResultChan returns the events.
func (w *stream) ResultChan() <-chan watch.Event { return w.out }

// Stop ends the watch. It may be called more than once.
func (w *stream) Stop() {
	w.cancel()
	w.ended.Wait()
}

func (w *stream) pass() {
	s := w.source
	lasts := time.NewTimer(earlyEnd)
	defer lasts.Stop()
	works := false
	for {
		select {
		case e, is := <-w.in.ResultChan():
			if !is {
				if !works {
					s.endedEarly(w.ctx)
				}
				return
			}
			works = true
			if !w.inspect(e) {
				continue
			}
			select {
			case w.out <- e:
			case <-w.ctx.Done():
				return
			}
		case <-lasts.C:
			works = true
			s.early = 0
			s.report(w.ctx, verbStream, nil)
		case <-w.ctx.Done():
			return
		}
	}
}

// inspect reports whether an event is passed on.
func (w *stream) inspect(e watch.Event) bool {
	s := w.source
	if e.Type == watch.Error {
		s.report(w.ctx, verbStream, apierrors.FromObject(e.Object))
		return true
	}
	s.early = 0
	s.report(w.ctx, verbStream, nil)
	return reflect.TypeOf(e.Object) == reflect.TypeOf(s.kind.sample)
}
