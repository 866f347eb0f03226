package cluster

import (
	"context"
	"reflect"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
)

// stream passes the events of a watch on. It reports those that are errors, and leaves out objects of another kind.
type stream struct {
	in     watch.Interface
	out    chan watch.Event
	source *source
	stop   context.Context
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// newStream begins to pass events on. Stop ends that, the watch and its request.
func newStream(in watch.Interface, s *source, cancel context.CancelFunc) *stream {
	w := &stream{in: in, out: make(chan watch.Event), source: s}
	w.stop, w.cancel = context.WithCancel(context.Background())
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
	for {
		select {
		case e, is := <-w.in.ResultChan():
			if !is {
				return
			}
			if !w.inspect(e) {
				continue
			}
			select {
			case w.out <- e:
			case <-w.stop.Done():
				return
			}
		case <-w.stop.Done():
			return
		}
	}
}

// inspect reports whether an event is passed on.
func (w *stream) inspect(e watch.Event) bool {
	s := w.source
	if e.Type == watch.Error {
		s.report(w.stop, verbStream, apierrors.FromObject(e.Object))
		return true
	}
	s.report(w.stop, verbStream, nil)
	return reflect.TypeOf(e.Object) == reflect.TypeOf(s.kind.sample)
}
