// Package command is usher's command line: flags, sub-commands, help, and the exit status.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"usher/internal/app"
	"usher/internal/config"
)

// Exit statuses.
const (
	ok          = 0
	startFailed = 1 // the words were fine, the machine said no
	usageFailed = 2 // the words were not
)

// usageError is a mistake in the words of the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Main runs the program that args (with the program's name first) ask for and returns its exit status. It catches
// SIGINT and SIGTERM while it serves; the end of ctx has the effect of a signal. A failure is one line on stderr.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) < 2 {
		fmt.Fprintf(stderr, "usher: %s\n", hint)
		return usageFailed
	}
	err := run(ctx, args, stdout, stderr)
	if err == nil {
		return ok
	}
	fmt.Fprintf(stderr, "usher: %s\n", printable(err.Error()))
	if errors.As(err, new(usageError)) {
		return usageFailed
	}
	return startFailed
}

// printable escapes what would move the cursor, end the line, or not be seen at all: errors repeat words as they came.
func printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		i += size
	}
	return b.String()
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cliApp := newApp(stdout, stderr)
	words, err := arrange(args[1:], cliApp)
	if err != nil {
		return usageError{err}
	}
	return cliApp.RunContext(ctx, append([]string{"usher"}, words...))
}

func newApp(stdout, stderr io.Writer) *cli.App {
	env := app.Env{Stdout: stdout, Stderr: stderr}
	return &cli.App{
		Name:                  "usher",
		Usage:                 "layer-4 load balancer",
		Version:               version(),
		CustomAppHelpTemplate: help,
		// The library's own flags and help command are variables of its package; ours are of this app.
		HideHelp:    true,
		HideVersion: true,
		Writer:      stdout,
		ErrWriter:   stderr,
		Flags:       append(flags(), &cli.BoolFlag{Name: "version", Aliases: []string{"v"}}),
		// Commas belong to our own syntax.
		DisableSliceFlagSeparator: true,
		OnUsageError:              usage,
		// Main reports errors and chooses the status; the library would exit the process by itself.
		ExitErrHandler: func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				cli.ShowVersion(c)
				return nil
			}
			cfg, err := config.Parse(gather(c))
			if err != nil {
				return usageError{err}
			}
			return app.Run(c.Context, cfg, env)
		},
		Commands: []*cli.Command{{
			Name:               "demo",
			Usage:              "three built-in backends and a service in front of them",
			CustomHelpTemplate: demoHelp,
			HideHelp:           true,
			OnUsageError:       usage,
			Flags: slices.DeleteFunc(flags(), func(f cli.Flag) bool {
				return !slices.Contains([]string{"scheduler", "engine", "workers", "log-level", "help"}, f.Names()[0])
			}),
			Action: func(c *cli.Context) error {
				if c.Args().Present() {
					return usageError{fmt.Errorf("demo takes no words, not %q", c.Args().First())}
				}
				// The demo's own addresses take the place of these. Its view tells what the log would, unless asked for.
				words := gather(c)
				words.Listen, words.Backend = []string{"demo=8080"}, []string{"demo=9001"}
				words.Options = slices.Insert(words.Options, 0, config.Option{Name: "log-level", Value: "warn"})
				cfg, err := config.Parse(words)
				if err != nil {
					return usageError{err}
				}
				return app.Demo(c.Context, cfg, env)
			},
		}, {
			Name:     "help",
			HideHelp: true,
			Action: func(c *cli.Context) error {
				topic := c.Args().First()
				if topic == "" || topic == "help" {
					return cli.ShowAppHelp(c)
				}
				if page, ok := topics()[topic]; ok {
					_, err := io.WriteString(stdout, page)
					return err
				}
				if c.App.Command(topic) == nil {
					return usageError{fmt.Errorf("no help on %q%s", topic, config.DidYouMean(topic, []string{"demo", "schedulers", "backends", "health"}))}
				}
				return cli.ShowCommandHelp(c, topic)
			},
		}},
	}
}

// usage takes the page of help out of the library's way of reporting a mistake.
func usage(_ *cli.Context, err error, _ bool) error { return usageError{err} }

// flags are the root command's. Values stay text here, config understands them.
func flags() []cli.Flag {
	all := []cli.Flag{
		&cli.StringSliceFlag{Name: "listen", Aliases: []string{"l"}},
		&cli.StringSliceFlag{Name: "backend", Aliases: []string{"b"}},
	}
	for _, name := range config.ServiceOptions() {
		f := &cli.StringSliceFlag{Name: name}
		if name == "scheduler" {
			f.Aliases = []string{"s"}
		}
		all = append(all, f)
	}
	for _, name := range config.ProcessOptions() {
		if name == "access-log" {
			all = append(all, &cli.BoolFlag{Name: name})
			continue
		}
		all = append(all, &cli.StringFlag{Name: name})
	}
	return append(all, &cli.BoolFlag{Name: "help", Aliases: []string{"h"}})
}

// gather collects the words of a parsed command line.
func gather(c *cli.Context) config.Words {
	w := config.Words{Mappings: c.Args().Slice(), Listen: c.StringSlice("listen"), Backend: c.StringSlice("backend")}
	for _, name := range config.ServiceOptions() {
		for _, value := range c.StringSlice(name) {
			w.Options = append(w.Options, config.Option{Name: name, Value: value})
		}
	}
	for _, name := range config.ProcessOptions() {
		if c.IsSet(name) {
			w.Options = append(w.Options, config.Option{Name: name, Value: fmt.Sprint(c.Value(name))})
		}
	}
	return w
}
