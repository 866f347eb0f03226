package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// figure is one drawing: panels side by side, then the next row. All have the same
// logarithmic axes, so that heights can be compared.
type figure struct {
	x, y    string // what the axes show, with the unit
	columns int    // side by side; 0 is 1
	panels  []panel
}

type panel struct {
	title string
	lines []line
}

// line is a row of points and its name. A reference is what others are compared with.
type line struct {
	name        string
	isReference bool
	points      plotter.XYs // a value that is not above zero leaves a gap
}

// palette is distinguishable with the common kinds of colour blindness. It is from
// Okabe and Ito, "Color Universal Design" (2008), darkened for a white background.
var palette = [...]color.RGBA{
	{0x00, 0x67, 0xa8, 0xff}, {0xc4, 0x4f, 0x00, 0xff}, {0x00, 0x80, 0x5f, 0xff}, {0xa8, 0x4a, 0x86, 0xff},
	{0x8a, 0x6a, 0x00, 0xff}, {0x5b, 0x4b, 0xb5, 0xff}, {0x30, 0x30, 0x30, 0xff}, {0xa3, 0x16, 0x2e, 0xff},
}

// shapes distinguish lines without colours.
var shapes = [len(palette)]draw.GlyphDrawer{
	draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{},
	draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.PlusGlyph{}, draw.CrossGlyph{},
}

// dashes are those of references.
var dashes = [...][]vg.Length{{6, 4}, {2, 3}, {10, 3, 2, 3}}

var grey = color.RGBA{0x6a, 0x72, 0x7c, 0xff}

// The size of a panel in points, and the part of it for the legend.
const (
	panelWidth, panelHeight = 470, 290
	legendWidth             = 122
)

// draw returns the figure as SVG.
func (f *figure) draw() ([]byte, error) {
	columns := max(f.columns, 1)
	rows := (len(f.panels) + columns - 1) / columns
	canvas := vgsvg.New(vg.Length(columns*panelWidth), vg.Length(rows*panelHeight))
	area := draw.New(canvas)
	area.SetColor(color.White)
	area.Fill(area.Rectangle.Path())
	tiles := draw.Tiles{
		Cols: columns, Rows: rows, PadX: 12, PadY: 12,
		PadLeft: 8, PadRight: 8, PadTop: 8, PadBottom: 8,
	}
	xs, ys := newAxis(), newAxis()
	for _, p := range f.panels {
		for _, l := range p.lines {
			for _, at := range l.points {
				if isVisible(at) {
					xs.include(at.X)
					ys.include(at.Y)
				}
			}
		}
	}
	if xs.min > xs.max {
		return nil, fmt.Errorf("draw %q: there is no point above zero", f.y)
	}
	for i, p := range f.panels {
		drawn, legend, err := p.plot()
		if err != nil {
			return nil, fmt.Errorf("draw %q: %w", p.title, err)
		}
		xs.setOn(&drawn.X, f.x)
		ys.setOn(&drawn.Y, f.y)
		tile := tiles.At(area, i%columns, i/columns)
		drawn.Draw(draw.Crop(tile, 0, -legendWidth, 0, 0))
		legend.Draw(draw.Crop(tile, panelWidth-legendWidth-16, 0, 0, -24))
	}
	var svg bytes.Buffer
	_, err := canvas.WriteTo(&svg)
	// Fonts of the same widths, for systems without that of the drawing.
	return bytes.ReplaceAll(svg.Bytes(), []byte("Liberation Sans"), []byte("Liberation Sans, Helvetica, Arial, sans-serif")), err
}

func isVisible(p plotter.XY) bool { return p.X > 0 && p.Y > 0 }

// plot returns the panel, and its legend, which stands beside it.
func (p *panel) plot() (*plot.Plot, plot.Legend, error) {
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	drawn := plot.New()
	drawn.Title.Text = p.title
	for _, style := range []*draw.TextStyle{
		&drawn.Title.TextStyle, &drawn.X.Label.TextStyle, &drawn.Y.Label.TextStyle,
		&drawn.X.Tick.Label, &drawn.Y.Tick.Label, &drawn.Legend.TextStyle,
	} {
		style.Font = font.From(sans, 10)
	}
	drawn.Title.TextStyle.Font = font.From(sans, 12)
	grid := plotter.NewGrid()
	grid.Vertical = draw.LineStyle{Color: color.Gray{0xd0}, Width: 0.5}
	grid.Horizontal = grid.Vertical
	drawn.Add(grid)
	legend := drawn.Legend
	legend.Top, legend.Left, legend.Padding, legend.ThumbnailWidth = true, true, 3, 24
	marked, references := 0, 0
	for _, l := range p.lines {
		style := draw.LineStyle{Width: 1.4}
		var marks *draw.GlyphStyle
		switch {
		case l.isReference && references < len(dashes):
			style.Color, style.Dashes = grey, dashes[references]
			references++
		case !l.isReference && marked < len(palette):
			style.Color = palette[marked]
			marks = &draw.GlyphStyle{Color: palette[marked], Radius: 3.5, Shape: shapes[marked]}
			marked++
		default:
			return nil, legend, fmt.Errorf("no colour is left for the line %s", l.name)
		}
		legend.Add(l.name, l.add(drawn, style, marks)...)
	}
	return drawn, legend, nil
}

// add draws the pieces of the line between its gaps, and returns its sample.
func (l *line) add(to *plot.Plot, style draw.LineStyle, marks *draw.GlyphStyle) (sample []plot.Thumbnailer) {
	var piece plotter.XYs
	sample = []plot.Thumbnailer{&plotter.Line{LineStyle: style}}
	if marks != nil {
		sample = append(sample, &plotter.Scatter{GlyphStyle: *marks})
	}
	for i, at := range l.points {
		if isVisible(at) {
			piece = append(piece, at)
		}
		if len(piece) == 0 || isVisible(at) && i+1 < len(l.points) {
			continue
		}
		to.Add(&plotter.Line{XYs: piece, LineStyle: style})
		if marks != nil {
			to.Add(&plotter.Scatter{XYs: piece, GlyphStyle: *marks})
		}
		piece = nil
	}
	return sample
}

// axis is a logarithmic axis: from one tick of a decade to another.
type axis struct{ min, max float64 }

func newAxis() *axis { return &axis{math.Inf(1), math.Inf(-1)} }

func (a *axis) include(v float64) { a.min, a.max = min(a.min, v), max(a.max, v) }

// setOn gives the axis of a plot these ends, whole decades, and labels.
func (a *axis) setOn(to *plot.Axis, label string) {
	low, high := math.Floor(math.Log10(a.min)), math.Ceil(math.Log10(a.max))
	high = max(high, low+1)
	to.Label.Text = label
	to.Scale = plot.LogScale{}
	to.Min, to.Max = math.Pow(10, low), math.Pow(10, high)
	to.Tick.Marker = plot.TickerFunc(func(float64, float64) (ticks []plot.Tick) {
		for decade := low; decade <= high; decade++ {
			ticks = append(ticks, plot.Tick{Value: math.Pow(10, decade), Label: tickLabel(math.Pow(10, decade))})
			for step := 2.0; step < 10 && decade < high; step++ {
				ticks = append(ticks, plot.Tick{Value: step * math.Pow(10, decade)})
			}
		}
		return ticks
	})
}

// tickLabel writes a power of ten as on a tick: "0.01", "10,000".
func tickLabel(v float64) string {
	if v < 1 {
		return fmt.Sprintf("%.*f", int(math.Round(-math.Log10(v))), v)
	}
	return grouped(int(math.Round(v)))
}
