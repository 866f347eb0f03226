package main

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// chart is a panel of lines over logarithmic axes. Each line is named at its end, or in the
// legend of the figure where several panels show the same lines.
type chart struct {
	title     string
	x, y      axis
	tall      vg.Length
	hasLegend bool
	lines     []line
	band      []bandPoint // a shaded range behind the lines, if any
}

// line is a row of points and its name. A value that is not above zero leaves a gap.
type line struct {
	name   string
	style  lineStyle
	points []point
}

type point struct{ x, y float64 }

type bandPoint struct{ x, from, to float64 }

// lineStyle tells lines apart twice: by their colours and by their marks or dashes.
type lineStyle struct {
	draw.LineStyle
	mark draw.GlyphDrawer // nil: none
}

// marked is the style of the i-th line.
func marked(i int) lineStyle {
	return lineStyle{draw.LineStyle{Color: palette[i], Width: 1.8}, shapes[i]}
}

// reference is the style of the i-th line that others are compared with.
func reference(i int) lineStyle {
	dashes := [...][]vg.Length{{7, 4}, {2, 3}}
	return lineStyle{draw.LineStyle{Color: grey, Width: 1.8, Dashes: dashes[i]}, nil}
}

// underlay is the style of a wide line that others may run upon.
func underlay() lineStyle { return lineStyle{draw.LineStyle{Color: midGrey, Width: 8}, nil} }

// axis is a logarithmic axis.
type axis struct {
	name     string // what it counts; empty where the title says so
	write    func(float64) string
	from, to float64
}

// The room around a chart's area, and of a legend's sample, in points.
const (
	tickGap, labelGap      = 5, 9
	sampleLine, sampleGap  = 26, 18
	markRadius             = 3.6
	labelDistance          = 15 // of two names at the ends of lines
	mostTicks, footOfChart = 5, 2*textLine + 2
)

func (p *chart) name() string      { return p.title }
func (p *chart) height() vg.Length { return p.tall }

func (p *chart) samples() []line {
	if p.hasLegend {
		return p.lines
	}
	return nil
}

func (p *chart) describe() string {
	var said []string
	for _, l := range p.lines {
		visible := l.visible()
		if len(visible) == 0 {
			continue
		}
		first, last := visible[0], visible[len(visible)-1]
		said = append(said, fmt.Sprintf("%s from %s at %s to %s at %s", l.name,
			p.y.write(first.y), p.x.write(first.x), p.y.write(last.y), p.x.write(last.x)))
	}
	return fmt.Sprintf("%s, by %s: %s.", p.title, p.x.name, strings.Join(said, "; "))
}

func (at point) isVisible() bool { return at.x > 0 && at.y > 0 }

func (l line) visible() []point {
	return slices.DeleteFunc(slices.Clone(l.points), func(at point) bool { return !at.isVisible() })
}

// fit gives axes that show all of these charts to the same scale.
func fit(charts []*chart) error {
	x, y := [2]float64{math.Inf(1), 0}, [2]float64{math.Inf(1), 0}
	for _, p := range charts {
		for _, l := range p.lines {
			for _, at := range l.visible() {
				x = [2]float64{min(x[0], at.x), max(x[1], at.x)}
				y = [2]float64{min(y[0], at.y), max(y[1], at.y)}
			}
		}
	}
	if x[1] == 0 || x[0] == x[1] {
		return fmt.Errorf("draw %q: there are no points to draw", charts[0].title)
	}
	for _, p := range charts {
		p.x.from, p.x.to = x[0], x[1]
		p.y.from, p.y.to = y[0]/1.3, y[1]*1.3
	}
	return nil
}

// at is where a value is between the ends of the axis, 0 to 1.
func (a *axis) at(v float64) float64 { return math.Log(v/a.from) / math.Log(a.to/a.from) }

// ticks are the powers of ten on the axis, or every other one where there are many.
func (a *axis) ticks() (ticks []float64) {
	low, high := math.Ceil(math.Log10(a.from)-1e-9), math.Floor(math.Log10(a.to)+1e-9)
	step := 1 + math.Floor((high-low)/mostTicks)
	for e := low; e <= high; e += step {
		ticks = append(ticks, math.Pow(10, e))
	}
	return ticks
}

func (p *chart) draw(c draw.Canvas) {
	area := c
	for _, v := range p.y.ticks() {
		area.Min.X = max(area.Min.X, c.Min.X+plainText(grey).Width(p.y.write(v))+tickGap)
	}
	area.Min.Y += footOfChart
	area.Max.Y -= 4
	area.Max.X -= plainText(grey).Width(p.x.write(p.x.to)) / 2
	if !p.hasLegend {
		for _, l := range p.lines {
			area.Max.X = min(area.Max.X, c.Max.X-labelGap-plainText(ink).Width(l.name))
		}
	}
	p.drawAxes(area)
	p.drawBand(area)
	for _, l := range p.lines {
		p.drawLine(area, l)
	}
	if !p.hasLegend {
		p.drawNames(area)
	}
}

func (p *chart) drawAxes(area draw.Canvas) {
	grid := draw.LineStyle{Color: paleGrey, Width: 1}
	for _, v := range p.y.ticks() {
		y := area.Y(p.y.at(v))
		area.StrokeLine2(grid, area.Min.X, y, area.Max.X, y)
		style := plainText(grey)
		style.XAlign = draw.XRight
		put(area, style, area.Min.X-tickGap, y, p.y.write(v))
	}
	style := plainText(grey)
	style.XAlign = draw.XCenter
	for _, v := range p.x.ticks() {
		x := area.X(p.x.at(v))
		area.StrokeLine2(grid, x, area.Min.Y, x, area.Max.Y)
		put(area, style, x, area.Min.Y-tickGap-textLine/2, p.x.write(v))
	}
	area.StrokeLine2(draw.LineStyle{Color: grey, Width: 1}, area.Min.X, area.Min.Y, area.Max.X, area.Min.Y)
	put(area, style, area.Center().X, area.Min.Y-tickGap-1.5*textLine, p.x.name)
}

// drawBand shades the range.
func (p *chart) drawBand(area draw.Canvas) {
	var edge []vg.Point
	for _, at := range p.band {
		edge = append(edge, p.place(area, point{at.x, at.to}))
	}
	for _, at := range slices.Backward(p.band) {
		edge = append(edge, p.place(area, point{at.x, at.from}))
	}
	if len(edge) > 0 {
		area.FillPolygon(color.RGBA{0xd3, 0xe6, 0xf5, 0xff}, edge)
	}
}

func (p *chart) place(area draw.Canvas, at point) vg.Point {
	return vg.Point{X: area.X(p.x.at(at.x)), Y: area.Y(p.y.at(at.y))}
}

// drawLine draws the pieces of a line between its gaps, and its marks.
func (p *chart) drawLine(area draw.Canvas, l line) {
	var piece []vg.Point
	for i, at := range l.points {
		if at.isVisible() {
			piece = append(piece, p.place(area, at))
		}
		if len(piece) == 0 || at.isVisible() && i+1 < len(l.points) {
			continue
		}
		area.StrokeLines(l.style.LineStyle, piece)
		for _, to := range piece {
			l.style.drawMark(area, to)
		}
		piece = nil
	}
}

// words is the colour of a line's name at its end.
func (s lineStyle) words() color.Color {
	if s.mark == nil {
		return grey
	}
	return s.Color
}

func (s lineStyle) drawMark(c draw.Canvas, at vg.Point) {
	if s.mark != nil {
		c.DrawGlyphNoClip(draw.GlyphStyle{Color: s.Color, Radius: markRadius, Shape: s.mark}, at)
	}
}

// drawNames writes the names of the lines at their ends, apart from each other.
func (p *chart) drawNames(area draw.Canvas) {
	type end struct {
		line
		y vg.Length
	}
	var ends []end
	for _, l := range p.lines {
		if visible := l.visible(); len(visible) > 0 {
			ends = append(ends, end{l, p.place(area, visible[len(visible)-1]).Y})
		}
	}
	slices.SortStableFunc(ends, func(a, b end) int { return cmp.Compare(a.y, b.y) })
	wanted := make([]vg.Length, len(ends))
	for i, e := range ends {
		wanted[i] = e.y
	}
	for i, y := range spaced(wanted, labelDistance) {
		put(area, plainText(ends[i].style.words()), area.Max.X+labelGap, y, ends[i].name)
	}
}

// spaced moves ascending places apart, by as little as gives each that distance from the next.
func spaced(wanted []vg.Length, distance vg.Length) []vg.Length {
	type group struct {
		n      int
		middle vg.Length
	}
	var groups []group
	for _, y := range wanted {
		groups = append(groups, group{1, y})
		for n := len(groups); n > 1; n = len(groups) {
			a, b := groups[n-2], groups[n-1]
			if b.middle-a.middle >= distance*vg.Length(a.n+b.n)/2 {
				break
			}
			all := a.n + b.n
			groups = append(groups[:n-2], group{all, (a.middle*vg.Length(a.n) + b.middle*vg.Length(b.n)) / vg.Length(all)})
		}
	}
	placed := make([]vg.Length, 0, len(wanted))
	for _, g := range groups {
		for i := range g.n {
			placed = append(placed, g.middle+distance*(vg.Length(i)-vg.Length(g.n-1)/2))
		}
	}
	return placed
}

func (l line) sampleWidth() vg.Length {
	return sampleLine + tickGap + plainText(ink).Width(l.name) + sampleGap
}

// drawSample draws the line's entry in a legend and returns where the next one begins.
func (l line) drawSample(c draw.Canvas, at vg.Point) vg.Length {
	c.StrokeLine2(l.style.LineStyle, at.X, at.Y, at.X+sampleLine, at.Y)
	l.style.drawMark(c, vg.Point{X: at.X + sampleLine/2, Y: at.Y})
	put(c, plainText(ink), at.X+sampleLine+tickGap, at.Y, l.name)
	return at.X + l.sampleWidth()
}
