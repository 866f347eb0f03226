package top

import (
	"context"
	"iter"
	"net/url"
	"time"

	"usher/internal/api"
)

// Source is the usher that is asked: an *api.Client.
type Source interface {
	Process(context.Context) (api.Process, error)
	Overview(context.Context) (api.Services, error)
	Service(ctx context.Context, name string) (api.Services, error)
	Flows(context.Context, url.Values) iter.Seq2[api.Flow, error]
	SetOverride(ctx context.Context, service, address string, o api.Override) error
	Resume(ctx context.Context, service, address string) error
	Kill(context.Context, url.Values) (api.Killed, error)
}

// Question is what the screen needs to know.
type Question struct {
	view    view
	service string // of backends
	flows   string // the query, encoded
}

// Sample is the answer to a question.
type Sample struct {
	Question Question
	At       time.Time
	Process  api.Process
	Services []api.Service
	Flows    []api.Flow
	Err      error
}

// ask asks a question.
func ask(ctx context.Context, from Source, q Question) Sample {
	s := Sample{Question: q}
	s.Process, s.Err = from.Process(ctx)
	var list api.Services
	switch {
	case s.Err != nil:
	case q.view == services:
		list, s.Err = from.Overview(ctx)
	case q.view == backends:
		list, s.Err = from.Service(ctx, q.service)
	default:
		query, _ := url.ParseQuery(q.flows) // Encode has written it
		for f, err := range from.Flows(ctx, query) {
			if s.Err = err; err != nil {
				break
			}
			s.Flows = append(s.Flows, f)
		}
	}
	s.Services, s.At = list.Services, time.Now()
	return s
}

// Verbs of actions.
const (
	quit   = "quit"
	drain  = "drain"
	maint  = "maint"
	resume = "resume"
	kill   = "kill"
)

// Action is what a key has usher do, or the program.
type Action struct {
	verb    string
	service string
	backend string
	query   url.Values // of kill
	what    string     // it is done to, in words
}

// Result is how an action went.
type Result struct {
	Action Action
	Killed int
	Err    error
}

// do has usher do something.
func (a Action) do(ctx context.Context, by Source) Result {
	r := Result{Action: a}
	switch a.verb {
	case drain, maint:
		r.Err = by.SetOverride(ctx, a.service, a.backend, api.Override{Admin: a.verb})
	case resume:
		r.Err = by.Resume(ctx, a.service, a.backend)
	case kill:
		var k api.Killed
		k, r.Err = by.Kill(ctx, a.query)
		r.Killed = k.Killed
	}
	return r
}
