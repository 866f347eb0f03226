package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// picture is a drawing of figures that pages of results have. A study writes its page; the
// pictures follow from the pages alone, so they can be drawn anew without measuring.
type picture struct {
	name  string   // of the file
	pages []string // that it is drawn from
	draw  func(*reader) figure
}

// pictures are those that there are.
var pictures = [...]picture{
	{"costs.svg", []string{"tcp.md", "udp.md"}, costsFigure},
	{"scheduler-cost.svg", []string{"schedulers.md"}, choicesFigure},
	{"table-build.svg", []string{"schedulers.md"}, buildsFigure},
	{"disruption.svg", []string{"disruption.md"}, movesFigure},
	{"spread.svg", []string{"disruption.md"}, evennessFigure},
	{"tables.svg", []string{"tables.md"}, tablesFigure},
	{"rules.svg", []string{"rules.md"}, rulesFigure},
	{"kube-change.svg", []string{"kube.md"}, kubeFigure},
}

// picturesCommand as the first argument draws all pictures anew.
const picturesCommand = "pictures"

// parsePicturesFlags returns the folder of the pages, which is that of the pictures.
func parsePicturesFlags(args []string, stderr io.Writer) (folder string, err error) {
	f := flag.NewFlagSet("bench "+picturesCommand, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&folder, "results", filepath.Join("bench", "results"), "folder of the pages, and of the pictures")
	if err := f.Parse(args); err != nil {
		return "", err
	}
	if f.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
		fmt.Fprintln(stderr, "bench:", err)
	}
	return folder, err
}

// drawPictures draws all of them into the folder of their pages.
func drawPictures(folder string) error {
	for _, p := range pictures {
		svg, err := p.svg(folder)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, p.name), svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// svg draws the picture from the pages in a folder.
func (p *picture) svg(folder string) ([]byte, error) {
	r, err := p.read(folder)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	f := p.draw(r)
	if r.err != nil {
		return nil, fmt.Errorf("%s from %s: %w", p.name, strings.Join(p.pages, ", "), r.err)
	}
	return f.draw()
}

// read returns a reader of the picture's pages.
func (p *picture) read(folder string) (*reader, error) {
	r := &reader{pages: make(map[string]*page)}
	for _, name := range p.pages {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return nil, err
		}
		r.pages[name] = parsePage(name, string(text))
	}
	return r, nil
}

// The ways to write a figure on an axis. A hard space keeps it with its unit.

// counted writes 10, 1k, 1M.
func counted(v float64) string { return scaled(v, 1000, "", "k", "M") }

// percents writes 0.1 %.
func percents(v float64) string { return significant(v) + "\u00a0%" }

// timesAsMuch writes 10×.
func timesAsMuch(v float64) string { return significant(v) + "×" }

// nanosecond writes a number of nanoseconds as 10 ns, 1 µs, 20 ms.
func nanosecond(v float64) string {
	return scaled(v, 1000, "\u00a0ns", "\u00a0µs", "\u00a0ms", "\u00a0s")
}

// millisecond writes a number of milliseconds in the same way.
func millisecond(v float64) string { return nanosecond(v * 1e6) }

// scaled writes v with the unit that leaves it below the step.
func scaled(v, step float64, units ...string) string {
	i := 0
	for v >= step*0.9995 && i+1 < len(units) {
		v, i = v/step, i+1
	}
	return significant(v) + units[i]
}

// significant writes up to three digits that count.
func significant(v float64) string {
	if v >= 999.5 {
		return grouped(int(v + 0.5))
	}
	return fmt.Sprintf("%.3g", v)
}
