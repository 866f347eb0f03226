package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/terminal"
)

// output is how a command prints what it was asked for.
type output struct {
	w        io.Writer
	form     string        // table, wide, json or yaml
	interval time.Duration // between prints; 0: once
}

const (
	forms           = "table|wide|json|yaml"
	defaultInterval = "2s"
)

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: forms + "\tjson is the API's own object"}
}

func watchFlag() cli.Flag {
	return &cli.StringFlag{Name: "watch", Usage: "[=" + defaultInterval + "]\tprints again after this time, until Ctrl-C"}
}

// instanceFlags choose the running usher that a command is about.
func instanceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "name", Usage: "INSTANCE\tname of the usher, if several run"},
		&cli.StringFlag{Name: "control", Usage: "PATH\tits control socket"},
	}
}

// overrideFlags are those of the commands that set something by hand.
func overrideFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "timeout", Usage: "TIME\tafter which it ends by itself; default: resume ends it"},
	}, instanceFlags()...)
}

// output reads the flags of output.
func (p *program) output(c *cli.Context) (output, error) {
	out := output{w: p.stdout, form: c.String("output")}
	if have := strings.Split(forms, "|"); !slices.Contains(have, out.form) {
		return out, usageError{fmt.Errorf("--output %s: unknown value %q%s", out.form, out.form, config.OrHave(out.form, have))}
	}
	word := c.String("watch")
	if word == "" {
		return out, nil
	}
	var err error
	if out.interval, err = time.ParseDuration(word); err != nil || out.interval < minInterval {
		return out, usageError{fmt.Errorf("--watch %s: %q is no time such as %s (at least %s)", word, word, defaultInterval, minInterval)}
	}
	return out, nil
}

// minInterval bounds the work that watching costs the running usher.
const minInterval = 100 * time.Millisecond

func (o output) wide() bool { return o.form == "wide" }

// isObject reports whether the output is for programs.
func (o output) isObject() bool { return o.form == "json" || o.form == "yaml" }

// object prints a value as JSON or YAML, with the API's names.
func (o output) object(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err == nil && o.form == "yaml" {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return err
	}
	_, err = w.Write(append(bytes.TrimRight(text, "\n"), '\n'))
	return err
}

// printer prints values of T as they come: as rows of a table, as JSON one a line, or as the elements of a list in YAML.
type printer[T any] struct {
	out   output
	w     *bufio.Writer
	table *table[T]
}

func newPrinter[T any](out output, w io.Writer, columns []column[T]) *printer[T] {
	p := &printer[T]{out: out, w: bufio.NewWriterSize(w, 32<<10)}
	p.table = newTable(p.w, columns, out.wide())
	return p
}

func (p *printer[T]) print(v T) error {
	switch p.out.form {
	case "json":
		return p.out.object(p.w, v)
	case "yaml":
		return p.out.object(p.w, []T{v})
	}
	return p.table.row(v)
}

// flush writes all that was printed.
func (p *printer[T]) flush() error {
	if !p.out.isObject() {
		if err := p.table.flush(); err != nil {
			return err
		}
	}
	return p.w.Flush()
}

// say prints the one line that answers a change.
func (p *program) say(format string, args ...any) error {
	_, err := fmt.Fprintf(p.stdout, "%s\n", printable(fmt.Sprintf(format, args...)))
	return err
}

// repeat prints what draw writes: once, or again after each interval until the context ends.
func (o output) repeat(ctx context.Context, draw func(io.Writer) error) error {
	if o.interval == 0 {
		return draw(o.w)
	}
	tick := time.NewTicker(o.interval)
	defer tick.Stop()
	for first := true; ; first = false {
		var frame bytes.Buffer
		if err := draw(&frame); err != nil {
			return err
		}
		if _, err := o.w.Write(o.again(frame.Bytes(), first)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// again returns a print as it follows the one before. On a terminal it takes its place, and is cut to the screen.
func (o output) again(text []byte, first bool) []byte {
	switch {
	case o.form == "json":
		return text
	case o.form == "yaml":
		return append([]byte("---\n"), text...)
	case !terminal.CanMove(o.w) && first:
		return text
	case !terminal.CanMove(o.w):
		return append([]byte("\n"), text...)
	}
	return redrawn(text, screenSize(o.w))
}

// redrawn returns a print that takes the place of the one before on a terminal, cut to the terminal's size.
func redrawn(text []byte, size size) []byte {
	var b bytes.Buffer
	b.WriteString(terminal.TopLeft)
	for line := range bytes.Lines(text) {
		if size.height--; size.height <= 0 {
			break
		}
		runes := []rune(string(bytes.TrimRight(line, "\n")))
		b.WriteString(string(runes[:min(len(runes), size.width-1)]))
		b.WriteString(terminal.EraseLine + "\n")
	}
	b.WriteString(terminal.EraseBelow)
	return b.Bytes()
}

// screen returns how many rows of a table a print that replaces the one before can show.
func (o output) screen() (rows int, ok bool) {
	if o.interval == 0 || o.isObject() || !terminal.CanMove(o.w) {
		return 0, false
	}
	return max(1, screenSize(o.w).height-2), true // without the heading, and the line of the cursor
}

// size is that of a terminal, in characters.
type size struct{ width, height int }

func screenSize(w io.Writer) size {
	width, height := terminal.Size(w.(*os.File))
	return size{width, height}
}

// client finds the running usher that a command is about.
func client(c *cli.Context) (*api.Client, error) {
	return api.Find(c.Context, c.String("name"), c.String("control"))
}
