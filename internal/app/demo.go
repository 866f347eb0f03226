package app

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"usher/internal/config"
	"usher/internal/demo"
	"usher/internal/terminal"
)

// demoDrain bounds how long what has connected to the demo may go on after its end.
const demoDrain = 2 * time.Second

// Demo runs the demo around a usher in a process of its own. It ends with a key, a signal or ctx. The options of cfg's
// one service hold, and those of its process; addresses are replaced.
func Demo(ctx context.Context, cfg *config.Config, env Env) error {
	defer ignorePipe()()
	// A demo without a viewer has no purpose: a pipe whose reader has closed ends it.
	ctx, unseen := context.WithCancel(ctx)
	defer unseen()
	out := newAsyncWriter(env.Stdout, nil, func(error) { unseen() })
	defer out.close()
	stop := watchSignals(ctx, false, signal.Ignored(syscall.SIGHUP))
	defer stop.release()
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	o := demo.Options{
		Service: cfg.Services[0], Executable: executable, Command: commandOf(os.Args[0]), Out: out, Log: env.Stderr, Cut: stop.cut,
	}
	if terminal.CanMove(env.Stdout) {
		o.Screen = env.Stdout.(*os.File)
	}
	cfg.Process.DrainTimeout = demoDrain
	if terminal.Is(env.Stderr) {
		cfg.Process.LogFormat = "console"
		o.LogsToView = o.Screen != nil // the log must not write into the live lines
	}
	for _, option := range options(&cfg.Process) {
		o.Flags = append(o.Flags, "--"+string(option.Name)+"="+option.Value)
	}
	return demo.Run(stop.drain, o)
}

// commandOf returns what the user types to run the program that was started as arg0. The compiler's go run leaves its
// program in a folder that ends with it.
func commandOf(arg0 string) string {
	if strings.Contains(arg0, "go-build") && filepath.Base(filepath.Dir(arg0)) == "exe" {
		return "go run ."
	}
	return arg0
}
