package app

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/control"
	"usher/internal/flags"
)

// scripted is a source whose run is a function.
type scripted struct {
	run func(ctx context.Context, h SourceHost, synced func()) error
}

func (scripted) Name() string              { return "kube" }
func (scripted) Settings() ([]byte, error) { return []byte("settings"), nil }
func (s scripted) Run(ctx context.Context, h SourceHost, synced func()) error {
	return s.run(ctx, h, synced)
}

// replace gives the services of a command line to the owner of the source.
func replace(t *testing.T, ctx context.Context, h SourceHost, words ...string) error {
	return h.Control.Replace(ctx, control.Kube, control.Part{Services: parse(t, flags.Words{Mappings: words}).Services})
}

// sourceStart begins with a source alone, whose services are logged at debug.
func sourceStart(run func(ctx context.Context, h SourceHost, synced func()) error) Start {
	return Start{Options: optionsOf("control", "off", "workers", "2", "log-level", "debug"), Source: scripted{run}}
}

func TestSourceGivesTheFirstServices(t *testing.T) {
	t.Parallel()
	backend := greeter(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log, ended := new(lines), false
	begin := sourceStart(func(ctx context.Context, h SourceHost, synced func()) error {
		if err := replace(t, ctx, h, "127.0.0.1:0="+backend); err != nil {
			return err
		}
		synced()
		synced() // once more does no harm
		<-ctx.Done()
		// The Controller is still there.
		ended = h.Control.Replace(context.WithoutCancel(ctx), control.Kube, control.Part{}) == nil
		return nil
	})
	result := make(chan error, 1)
	go func() { result <- Run(ctx, begin, Env{Stdout: io.Discard, Stderr: log}) }()
	address := log.await(t, `"msg":"service",.*"listen":\["([^"]+)"\]`)
	log.await(t, `"msg":"serving"`)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	conn.Close()
	cancel()
	if err := <-result; err != nil || !ended {
		t.Errorf("run: %v, the source ended first: %v", err, ended)
	}
}

func TestErrorsOfASource(t *testing.T) {
	t.Parallel()
	failure := errors.New("the API server is away")
	for name, test := range map[string]struct {
		run  func(ctx context.Context, h SourceHost, synced func()) error
		want string
	}{
		"before its first services": {func(context.Context, SourceHost, func()) error { return failure }, failure.Error()},
		"it ends before them":       {func(context.Context, SourceHost, func()) error { return nil }, "kube ended before it had services"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := Run(t.Context(), sourceStart(test.run), Env{Stdout: io.Discard, Stderr: io.Discard}); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	t.Run("after them", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		log := new(lines)
		runs := 0
		again := make(chan struct{})
		begin := sourceStart(func(ctx context.Context, _ SourceHost, synced func()) error {
			synced()
			if runs++; runs == 1 {
				return failure
			}
			close(again)
			<-ctx.Done()
			return nil
		})
		result := make(chan error, 1)
		go func() { result <- Run(ctx, begin, Env{Stdout: io.Discard, Stderr: log}) }()
		log.await(t, `"msg":"source ended, its services stay as they are and usher tries again","source":"kube","error":"the API server is away"`)
		log.await(t, `"msg":"serving"`)
		<-again
		cancel()
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

// After an upgrade a source that cannot begin is tried again, ever more slowly, and each error is said once; after a run
// that went well for long it is like the first time.
func TestSourceAfterAnUpgradeIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		core, logs := observer.New(zap.InfoLevel)
		began := time.Now()
		var at []time.Duration
		source := scripted{func(context.Context, SourceHost, func()) error {
			switch at = append(at, time.Since(began)); len(at) {
			case 4:
				time.Sleep(time.Hour)
			case 5:
				cancel()
			}
			return errors.New("address already in use")
		}}
		r := &running{begin: Start{Source: source}, log: &logger{Logger: zap.New(core)}}
		r.runSource(ctx, true)
		<-r.source.ended
		if want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, time.Hour + 8*time.Second}; !slices.Equal(at, want) || logs.Len() != 2 {
			t.Errorf("run at %v, %d lines", at, logs.Len())
		}
		r.loops.Wait()
	})
}

// A start that ends early waits for its source, and reports nothing.
func TestASourceEndsWithTheStart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	begin := sourceStart(func(ctx context.Context, _ SourceHost, _ func()) error {
		cancel()
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if err := Run(ctx, begin, Env{Stdout: io.Discard, Stderr: io.Discard}); err != nil {
		t.Error(err)
	}
}

func TestSourceOfAState(t *testing.T) {
	t.Parallel()
	r := &running{begin: Start{Source: scripted{}}, log: &logger{Logger: zap.NewNop()}}
	st := &state{Control: new(control.State)}
	if err := r.storeSource(st); err != nil {
		t.Fatal(err)
	}
	text, err := st.encode()
	if err != nil {
		t.Fatal(err)
	}
	if st, err = decodeState(text); err != nil {
		t.Fatal(err)
	}
	var got string
	env := Env{Sources: map[string]func([]byte) (Source, error){"kube": func(settings []byte) (Source, error) {
		got = string(settings)
		return scripted{}, nil
	}}}
	if source, err := env.sourceOf(st); err != nil || source == nil || got != "settings" {
		t.Errorf("%v, %v, settings %q", source, err, got)
	}
	if _, err := new(Env).sourceOf(st); err == nil || !strings.Contains(err.Error(), "no usher kube") {
		t.Errorf("a binary without the source: %v", err)
	}
}

// optionsOf returns options of the process: names, each before its value.
func optionsOf(words ...string) (all []configfile.Option) {
	for i := 0; i < len(words); i += 2 {
		all = append(all, configfile.Option{Name: config.Field(words[i]), Value: words[i+1]})
	}
	return all
}
