// Package chart draws line charts with logarithmic axes as SVG.
//
// The same figure gives the same bytes. A drawing stands on its own: it has its
// own background, refers to nothing outside, and turns dark where the reader's colour
// scheme is dark. Lines differ in the shape of their marks as well as in colour.
package chart

import (
	"errors"
	"fmt"
	"io"
)

// Figure is one drawing: panels from left to right, then the next row. They all have
// the same axes, so that heights can be compared between them.
type Figure struct {
	Title   string
	X, Y    string // what the axes show, with the unit
	Columns int    // panels side by side; less than 1 is 1
	Panels  []Panel
}

// Panel is a plot with its legend.
type Panel struct {
	Title string
	Lines []Line // the later ones cover the earlier ones
}

// Line is a row of points that belong together, and its name in the legend.
type Line struct {
	Name string
	// Reference draws the line grey and without marks: what the others are compared
	// with.
	Reference bool
	// Points from left to right. Those that are not from Least to Most on both axes,
	// zero among them, are left out, and the line has a gap there.
	Points []Point
}

// Point is a place in the units of the axes.
type Point struct{ X, Y float64 }

// MaxLines and MaxReferences are how many lines of each kind a panel can tell apart.
const (
	MaxLines      = len(palette)
	MaxReferences = len(dashes)
)

// Least and Most bound what an axis can show.
const Least, Most = 1e-12, 1e15

// Write draws a figure. It fails if there is no point to show, if a panel has more
// lines than can be told apart, or if w does.
func Write(w io.Writer, f Figure) error {
	x, y := newSpan(), newSpan()
	for _, p := range f.Panels {
		marked, grey := 0, 0
		for _, l := range p.Lines {
			if l.Reference {
				grey++
			} else {
				marked++
			}
			for _, at := range l.Points {
				if at.visible() {
					x.take(at.X)
					y.take(at.Y)
				}
			}
		}
		if marked > MaxLines || grey > MaxReferences {
			return fmt.Errorf("draw %q: %d lines and %d references in one panel, at most %d and %d can be told apart",
				p.Title, marked, grey, MaxLines, MaxReferences)
		}
	}
	if x.min > x.max {
		return errors.New("draw a figure: no point that the axes can show")
	}
	d := newDrawing(f, newAxis(x), newAxis(y))
	d.draw()
	_, err := w.Write(d.out.Bytes())
	return err
}

func (p Point) visible() bool {
	return min(p.X, p.Y) >= Least && max(p.X, p.Y) <= Most // NaN is neither
}
