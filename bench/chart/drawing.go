package chart

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// Sizes in the units of the drawing, which are pixels at its natural size.
const (
	panelWidth  = 486
	plotLeft    = 86 // of the panel, to the axis
	plotTop     = 34
	plotWidth   = 380
	plotHeight  = 250
	axisHeight  = 46 // below the plot: labels of ticks, name of the axis
	rowHeight   = 18 // of the legend
	gap         = 18 // between panels
	titleHeight = 34
	charWidth   = 6.6 // about, of the legend's letters
	keyWidth    = 38  // of a legend's sample, with its margins
)

// A colour on the light background, and on the dark one.
type colour struct{ light, dark string }

// palette can be told apart with the common kinds of colour blindness, after Okabe and
// Ito, "Color Universal Design" (2008), darkened for a white and lightened for a dark
// background.
var palette = [...]colour{
	{"#0067a8", "#56b4e9"},
	{"#c44f00", "#ff9b5e"},
	{"#00805f", "#35c99b"},
	{"#a84a86", "#e79ac9"},
	{"#8a6a00", "#e6c440"},
	{"#5b4bb5", "#b0a4ff"},
	{"#303030", "#f2f2f2"},
	{"#a3162e", "#ff7d8d"},
}

// marks are paths from the middle of the mark on, one for each colour.
var marks = [len(palette)]string{
	"m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",                // circle
	"m-3.2 -3.2h6.4v6.4h-6.4z",                                     // square
	"m0 -4.2l4 7h-8z",                                              // triangle
	"m0 -4.5l4.5 4.5l-4.5 4.5l-4.5 -4.5z",                          // diamond
	"m0 4.2l4 -7h-8z",                                              // triangle, on its head
	"m-1.3 -4.2h2.6v2.9h2.9v2.6h-2.9v2.9h-2.6v-2.9h-2.9v-2.6h2.9z", // cross
	"m-4.2 -1.4h8.4v2.8h-8.4z",                                     // bar
	"m-1.4 -4.2h2.8v8.4h-2.8z",                                     // post
}

// dashes are those of references.
var dashes = [...]string{"6 4", "2 3", "10 3 2 3"}

var (
	background = colour{"#ffffff", "#14171c"}
	ink        = colour{"#1f2328", "#e6e8eb"}
	grid       = colour{"#d8dce1", "#343a43"}
	grey       = colour{"#6a727c", "#9aa3ae"}
)

// drawing is a figure on its way into out.
type drawing struct {
	Figure
	x, y axis
	out  bytes.Buffer
}

func newDrawing(f Figure, x, y axis) *drawing {
	f.Columns = max(min(f.Columns, len(f.Panels)), 1)
	return &drawing{Figure: f, x: x, y: y}
}

// put writes a piece whose arguments are numbers, or text that is escaped already.
func (d *drawing) put(format string, args ...any) { fmt.Fprintf(&d.out, format, args...) }

func (d *drawing) draw() {
	// Panels of one row are as high as the highest.
	tops, bottom := make([]float64, len(d.Panels)), float64(titleHeight)
	for first := 0; first < len(d.Panels); first += d.Columns {
		row := d.Panels[first:min(first+d.Columns, len(d.Panels))]
		height := 0.0
		for i, p := range row {
			tops[first+i] = bottom
			height = max(height, panelHeight(&p))
		}
		bottom += height + gap
	}
	width := d.Columns*panelWidth + gap
	d.put(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%s" viewBox="0 0 %[1]d %[2]s" role="img" font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12">`+"\n",
		width, short(bottom))
	d.put("<title>%s</title>\n", escape(d.Title))
	d.style()
	d.put(`<rect class="paper" color="%s" fill="currentColor" width="100%%" height="100%%"/>`+"\n", background.light)
	d.put(`<text class="ink" color="%s" fill="currentColor" x="%d" y="22" font-size="15" font-weight="600">%s</text>`+"\n",
		ink.light, gap, escape(d.Title))
	for i := range d.Panels {
		d.panel(&d.Panels[i], float64(i%d.Columns*panelWidth), tops[i])
	}
	d.put("</svg>\n")
}

// style is for dark backgrounds alone: the light colours are attributes of the elements,
// which also programs follow that know nothing of styles.
func (d *drawing) style() {
	d.put("<style>@media (prefers-color-scheme: dark) {\n")
	d.put(".paper { color: %s } .ink { color: %s } .grid { color: %s } .grey { color: %s }\n",
		background.dark, ink.dark, grid.dark, grey.dark)
	for i, c := range palette {
		d.put(".line%d { color: %s }\n", i, c.dark)
	}
	d.put("}</style>\n")
}

func (d *drawing) panel(p *Panel, left, top float64) {
	d.put(`<g class="panel" transform="translate(%s %s)">`+"\n", short(left), short(top))
	d.axes(p.Title)
	marked, grey := 0, 0
	for i := range p.Lines {
		l := &p.Lines[i]
		x, y := legendAt(p, i)
		if l.Reference {
			d.reference(l, grey, x, y)
			grey++
		} else {
			d.line(l, marked, x, y)
			marked++
		}
	}
	d.put("</g>\n")
}

// axes draws the grid, the labels and the names of both axes.
func (d *drawing) axes(title string) {
	const right, bottom = plotLeft + plotWidth, plotTop + plotHeight
	d.put(`<g class="grid" color="%s" stroke="currentColor">`+"\n", grid.light)
	for _, t := range d.x.ticks {
		x := short(d.left(t.value))
		d.put(`<path class="x" d="M%s %dV%d"%s/>`+"\n", x, plotTop, bottom, faint(t))
	}
	for _, t := range d.y.ticks {
		y := short(d.top(t.value))
		d.put(`<path class="y" d="M%d %sH%d"%s/>`+"\n", plotLeft, y, right, faint(t))
	}
	d.put("</g>\n")
	d.put(`<g class="ink" color="%s" fill="currentColor">`+"\n", ink.light)
	d.put(`<text x="%d" y="%d" font-weight="600">%s</text>`+"\n", plotLeft, plotTop-10, escape(title))
	for _, t := range d.x.ticks {
		if t.major {
			d.put(`<text class="x" x="%s" y="%d" text-anchor="middle">%s</text>`+"\n", short(d.left(t.value)), bottom+17, label(t.value))
		}
	}
	for _, t := range d.y.ticks {
		if t.major {
			d.put(`<text class="y" x="%d" y="%s" text-anchor="end">%s</text>`+"\n", plotLeft-7, short(d.top(t.value)+4), label(t.value))
		}
	}
	d.put(`<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", plotLeft+plotWidth/2, bottom+36, escape(d.X))
	d.put(`<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", plotTop+plotHeight/2, escape(d.Y))
	d.put("</g>\n")
}

// faint makes the lines of ticks without a label recede.
func faint(t tick) string {
	if t.major {
		return ""
	}
	return ` stroke-opacity="0.4"`
}

// line draws one with marks, and its sample at x, y of the legend.
func (d *drawing) line(l *Line, n int, x, y float64) {
	d.put(`<g class="line%d" color="%s" fill="currentColor">`+"\n", n, palette[n].light)
	d.put(`<path class="path" d="%sM%s %sh22" fill="none" stroke="currentColor" stroke-width="1.6"/>`+"\n", d.path(l), short(x), short(y))
	d.put(`<path class="marks" d="`)
	for _, p := range l.Points {
		if p.visible() {
			d.put("M%s %s%s", short(d.left(p.X)), short(d.top(p.Y)), marks[n])
		}
	}
	d.put(`M%s %s%s"/>`+"\n</g>\n", short(x+11), short(y), marks[n])
	d.legend(l.Name, x, y)
}

func (d *drawing) reference(l *Line, n int, x, y float64) {
	d.put(`<path class="grey" color="%s" d="%sM%s %sh22" fill="none" stroke="currentColor" stroke-width="1.6" stroke-dasharray="%s"/>`+"\n",
		grey.light, d.path(l), short(x), short(y), dashes[n])
	d.legend(l.Name, x, y)
}

func (d *drawing) legend(name string, x, y float64) {
	d.put(`<text class="ink" color="%s" fill="currentColor" x="%s" y="%s">%s</text>`+"\n",
		ink.light, short(x+28), short(y+4), escape(name))
}

// path goes through the points, with a gap where one cannot be shown.
func (d *drawing) path(l *Line) string {
	var path []byte
	command := byte('M')
	for _, p := range l.Points {
		if !p.visible() {
			command = 'M'
			continue
		}
		path = append(path, command)
		path = append(path, short(d.left(p.X))...)
		path = append(path, ' ')
		path = append(path, short(d.top(p.Y))...)
		command = 'L'
	}
	return string(path)
}

func (d *drawing) left(x float64) float64 { return plotLeft + plotWidth*d.x.at(x) }
func (d *drawing) top(y float64) float64  { return plotTop + plotHeight*(1-d.y.at(y)) }

// legendColumns is how many names of a panel have room side by side.
func legendColumns(p *Panel) int {
	longest := 1
	for _, l := range p.Lines {
		longest = max(longest, utf8.RuneCountInString(l.Name))
	}
	return max(int(plotWidth/(float64(longest)*charWidth+keyWidth)), 1)
}

// legendAt is where the sample of the i-th line begins.
func legendAt(p *Panel, i int) (x, y float64) {
	columns := legendColumns(p)
	x = plotLeft + float64(i%columns)*plotWidth/float64(columns)
	y = float64(plotTop + plotHeight + axisHeight + i/columns*rowHeight + rowHeight/2)
	return x, y
}

func panelHeight(p *Panel) float64 {
	columns := legendColumns(p)
	rows := (len(p.Lines) + columns - 1) / columns
	return float64(plotTop + plotHeight + axisHeight + rows*rowHeight)
}

// short writes a coordinate to a hundredth: the same on machines whose logarithms
// differ in the last bits, and without a minus before 0.
func short(v float64) string {
	return strconv.FormatFloat(math.Round(v*100)/100+0, 'f', -1, 64)
}

func escape(s string) string {
	var b bytes.Buffer
	// A buffer takes all that is written to it.
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}
