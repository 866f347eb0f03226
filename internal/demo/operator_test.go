package demo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/internal/config"
)

// fake is a usher that does what it is asked, or refuses.
type fake struct {
	t     *testing.T
	path  string
	err   error
	files []string // that were reloaded
}

func (f *fake) Reload(context.Context) error {
	text, err := os.ReadFile(f.path)
	if err != nil {
		f.t.Error(err)
	}
	f.files = append(f.files, string(text))
	return f.err
}

func (f *fake) Upgrade(context.Context, string) error { return f.err }

func TestOperator(t *testing.T) {
	t.Parallel()
	b := start(t, 0, 0, 0)
	service := config.NewService("demo", config.TCP)
	service.Listeners = []config.Addr{tcpAddr(b.Addrs()[0])}
	u := &fake{t: t, path: filepath.Join(t.TempDir(), "usher.yaml")}
	var told []string
	o := operator{
		usher: u, pid: 7, plan: &plan{path: u.path, service: service, size: 2}, backends: b, load: NewLoad(""), kept: NewKept("", b),
		tell: func(line string) { told = append(told, line) }, back: make(map[int]time.Time),
	}
	for _, tt := range []struct {
		keys string
		err  error
		want []string
	}{
		{"x0 9", nil, nil},
		{"11", nil, []string{"backend-1 killed, as by kill -9: the clients that it had ask again elsewhere", "backend-1 is back"}},
		{"3", nil, []string{"backend-3 is not in the config file yet: r adds it"}},
		{"ru", errors.New("not now"), []string{"reload refused: not now", "upgrade refused: not now"}},
		{"rr", nil, []string{
			"reloaded, backend-3 added: 0 of 0 connections kept, failed clients: 0",
			"reloaded, backend-3 removed: 0 of 0 connections kept, failed clients: 0",
		}},
		{"u", nil, []string{"upgraded, pid 7 as before: 0 of 0 connections kept, failed clients: 0"}},
	} {
		told, u.err = nil, tt.err
		for _, key := range tt.keys {
			o.press(t.Context(), key)
		}
		if diff := cmp.Diff(tt.want, told); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.keys, diff)
		}
	}
	var has []bool
	for _, file := range u.files {
		has = append(has, strings.Contains(file, b.Addrs()[2].String()))
	}
	if !slices.Equal(has, []bool{true, true, false}) {
		t.Errorf("the third backend is in the files: %v\n%s", has, strings.Join(u.files, "\n"))
	}
	if o.done != (tally{upgrades: 1, reloads: 2}) || len(o.back) != 0 {
		t.Errorf("%+v, %v", o.done, o.back)
	}
}

// A dead backend that nobody brings back comes back by itself.
func TestOperatorBringsBack(t *testing.T) {
	t.Parallel()
	b := start(t, 0)
	told := make(chan string, 10)
	o := operator{plan: &plan{size: 1}, backends: b, tell: func(line string) { told <- line }}
	o.back = map[int]time.Time{0: time.Now()}
	b[0].Kill()
	background(t, func(ctx context.Context) { o.run(ctx, nil) })
	select {
	case line := <-told:
		if line != "backend-1 is back" || !b[0].IsAlive() {
			t.Error(line)
		}
	case <-time.After(patience):
		t.Fatal("it stays dead")
	}
}

func TestScript(t *testing.T) {
	t.Parallel()
	for keys, can := range map[string]bool{"11ru22ru": true, "11r22r": false} {
		if got := string(script(2, can)); got != keys {
			t.Errorf("%q, want %q", got, keys)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		keys := make(chan rune)
		began := time.Now()
		go play(ctx, []rune("ab"), keys)
		for i, want := range "abab" {
			if key, at := <-keys, time.Since(began); key != want || at != time.Duration(i+1)*stepTime {
				t.Errorf("%c after %v", key, at)
			}
		}
		cancel()
		synctest.Wait()
	})
}
