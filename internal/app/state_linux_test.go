package app

import (
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"usher/internal/configfile"
	"usher/internal/control"
	"usher/internal/flags"
)

// sampleState is the state of a run with a flow.
func sampleState(t testing.TB) []byte {
	t.Helper()
	c, err := flags.Parse(flags.Words{
		Listen: []string{"web=127.0.0.1:0", "dns=udp://127.0.0.1:0", "named=localhost:0"}, Backend: []string{"web=127.0.0.1:1", "web=x.test:2", "dns=127.0.0.1:3", "named=127.0.0.1:4"},
		Options: []flags.Option{{Name: "health", Value: "off"}, {Name: "workers", Value: "1"}, {Name: "engine", Value: "epoll"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := newRunning(startOf(c), settings{process: c.Process}, &logger{Logger: zap.NewNop()}, watchSignals(t.Context(), false, false), Env{Version: "v1"})
	defer r.stop.release()
	if r.control, err = control.New(r.controlOptions()); err != nil {
		t.Fatal(err)
	}
	defer r.control.Close()
	if err := r.control.Replace(t.Context(), control.Flags, control.Part{Services: c.Services}); err != nil {
		t.Fatal(err)
	}
	if err := r.control.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("udp", strings.TrimPrefix(r.control.Services()[1].Listen[0], "udp://"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	st, err := r.control.Suspend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.control.CancelSuspend()
	text, err := (&state{
		Version: "v1", Executable: "/usher", Upgrades: 1, Process: options(&c.Process), File: "usher.yaml",
		FileState: fileState{Taken: time.Now(), IsRefused: true},
		Options:   []configfile.Option{{Name: "workers", Value: "1"}}, Control: st,
	}).encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// examine does what a child does that is asked about a state.
func examine(text []byte) error {
	st, err := decodeState(text)
	if err != nil {
		return err
	}
	s, err := st.settings()
	if err != nil {
		return err
	}
	return st.Control.Check(control.Options{Log: zap.NewNop(), Process: s.process})
}

func TestState(t *testing.T) {
	t.Parallel()
	text := sampleState(t)
	if err := examine(text); err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string][]byte{
		`the state begins with "usher state 2", and not with "usher state 1"`: []byte(strings.Replace(string(text), "state 1", "state 2", 1)),
		`begins with ""`: nil,
		"unknown field":  []byte(strings.Replace(string(text), "Executable", "Executabel", 1)),
		"unexpected EOF": text[:len(text)-1],
		"extraneous":     append([]byte(string(text)), 0),
		`unknown option`: []byte(strings.Replace(string(text), "gworkers", "gvorkers", 2)),
		"incomplete":     append([]byte(stateMark), 0xa0),
	} {
		if err := examine(bad); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
	}
}

// FuzzRestoreState: no state makes the next image crash.
func FuzzRestoreState(f *testing.F) {
	f.Add(sampleState(f))
	f.Add([]byte(stateMark + "\xa0"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		if len(text) > 1<<16 {
			return
		}
		if examine(text) != nil {
			return
		}
		// One that could be: its descriptors are those of nobody here, or of other kinds.
		st, err := decodeState(text)
		if err != nil {
			return
		}
		s, err := st.settings()
		if err != nil {
			return
		}
		if c, err := control.Restore(control.Options{Log: zap.NewNop(), Process: s.process}, st.Control); err == nil {
			c.Close()
		}
	})
}
