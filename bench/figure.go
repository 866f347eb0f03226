package main

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"regexp"
	"strings"

	weight "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// figure is one drawing: a title that says the finding, a note, and panels. It has a white
// ground of its own, so it reads the same on a light page and on a dark one.
type figure struct {
	title, note string
	columns     int // panels side by side; 0 is 1
	panels      []panel
}

// panel is a part of a figure, with a title of its own.
type panel interface {
	name() string
	height() vg.Length
	samples() []line    // what a legend names; none if the panel names all itself
	draw(c draw.Canvas) // fills the canvas
	describe() string   // the same for somebody who cannot see it
}

// The size of a figure and its text, in points. A phone shows it 360 pixels wide: text of
// 13 points is 10 pixels high there.
const (
	figureWidth            = 480
	margin, gap            = 14, 14
	titleSize, textSize    = 16, 13
	titleLeading, textLine = 20, 17
	belowTitle             = 4
	aboveLegend            = 4
	rise                   = 1.2 // of the middle of a text's letters above that of its box
)

// palette is distinguishable with the common kinds of colour blindness. It is from
// Okabe and Ito, "Color Universal Design" (2008), darkened for a white ground.
var palette = [...]color.RGBA{
	{0x00, 0x67, 0xa8, 0xff}, {0xb8, 0x4a, 0x00, 0xff}, {0x00, 0x76, 0x58, 0xff}, {0xa0, 0x40, 0x7e, 0xff},
	{0x7d, 0x60, 0x00, 0xff}, {0x5b, 0x4b, 0xb5, 0xff},
}

// shapes distinguish lines without colours.
var shapes = [len(palette)]draw.GlyphDrawer{
	draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{},
}

var (
	white    = color.RGBA{0xff, 0xff, 0xff, 0xff}
	ink      = color.RGBA{0x1f, 0x23, 0x28, 0xff}
	grey     = color.RGBA{0x59, 0x63, 0x6e, 0xff}
	midGrey  = color.RGBA{0xa3, 0xac, 0xb6, 0xff}
	paleGrey = color.RGBA{0xdd, 0xe1, 0xe6, 0xff}
)

// textStyle is the one font of all figures.
func textStyle(size vg.Length, isBold bool, c color.Color) draw.TextStyle {
	f := font.Font{Typeface: "Liberation", Variant: "Sans"}
	if isBold {
		f.Weight = weight.WeightBold
	}
	return draw.TextStyle{Color: c, Font: font.From(f, size), Handler: plot.DefaultTextHandler, YAlign: draw.YCenter}
}

// put writes a line of text whose middle is at that height.
func put(c draw.Canvas, style draw.TextStyle, x, y vg.Length, s string) {
	c.FillText(style, vg.Point{X: x, Y: y + rise}, s)
}

func plainText(c color.Color) draw.TextStyle { return textStyle(textSize, false, c) }

// draw returns the figure as SVG.
func (f *figure) draw() ([]byte, error) {
	const inner = figureWidth - 2*margin
	title := wrap(textStyle(titleSize, true, ink), f.title, inner)
	note := wrap(plainText(grey), f.note, inner)
	legend := f.legend(inner)
	head := margin + vg.Length(len(title))*titleLeading + belowTitle + vg.Length(len(note)+len(legend))*textLine + gap
	if len(legend) > 0 {
		head += aboveLegend
	}
	columns := max(f.columns, 1)
	height := head
	for i := 0; i < len(f.panels); i += columns {
		height += f.rowHeight(i, columns) + gap
	}
	canvas := vgsvg.New(figureWidth, height)
	area := draw.New(canvas)
	area.SetColor(white)
	area.Fill(area.Rectangle.Path())

	y := area.Max.Y - margin
	for _, s := range title {
		put(area, textStyle(titleSize, true, ink), margin, y-titleLeading/2, s)
		y -= titleLeading
	}
	y -= belowTitle
	for _, s := range note {
		put(area, plainText(grey), margin, y-textLine/2, s)
		y -= textLine
	}
	if len(legend) > 0 {
		y -= aboveLegend
	}
	for _, row := range legend {
		x := vg.Length(margin)
		for _, l := range row {
			x = l.drawSample(area, vg.Point{X: x, Y: y - textLine/2})
		}
		y -= textLine
	}
	y -= gap
	width := (inner - vg.Length(columns-1)*gap) / vg.Length(columns)
	for i, p := range f.panels {
		left := margin + vg.Length(i%columns)*(width+gap)
		put(area, textStyle(textSize, true, ink), left, y-textLine/2, p.name())
		tile := area
		tile.Min, tile.Max = vg.Point{X: left, Y: y - textLine - p.height()}, vg.Point{X: left + width, Y: y - textLine}
		p.draw(tile)
		if i%columns == columns-1 {
			y -= f.rowHeight(i-columns+1, columns) + gap
		}
	}
	return f.finish(canvas)
}

// rowHeight is that of the row of panels that begins with this one.
func (f *figure) rowHeight(first, columns int) (height vg.Length) {
	for _, p := range f.panels[first:min(first+columns, len(f.panels))] {
		height = max(height, textLine+p.height())
	}
	return height
}

// legend names each line of the panels once, in rows no wider than that.
func (f *figure) legend(width vg.Length) (rows [][]line) {
	seen, x := make(map[string]bool), width
	for _, p := range f.panels {
		for _, l := range p.samples() {
			if seen[l.name] {
				continue
			}
			seen[l.name] = true
			if x+l.sampleWidth() > width+sampleGap {
				rows, x = append(rows, nil), 0
			}
			rows[len(rows)-1] = append(rows[len(rows)-1], l)
			x += l.sampleWidth()
		}
	}
	return rows
}

// finish adds what gonum has no words for: a title and a description for screen readers, and
// fonts of the same widths for systems without that of the drawing.
func (f *figure) finish(canvas *vgsvg.Canvas) ([]byte, error) {
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return nil, fmt.Errorf("draw %q: %w", f.title, err)
	}
	const head = "\n\txmlns:xlink=\"http://www.w3.org/1999/xlink\">"
	before, after, isFound := strings.Cut(svg.String(), head)
	if !isFound {
		return nil, fmt.Errorf("draw %q: the SVG does not begin as expected", f.title)
	}
	described := []string{f.note}
	for _, p := range f.panels {
		described = append(described, p.describe())
	}
	named := fmt.Sprintf("\n\trole=\"img\" aria-labelledby=\"title desc\">\n<title id=\"title\">%s</title>\n<desc id=\"desc\">%s</desc>",
		html.EscapeString(f.title), html.EscapeString(strings.Join(described, " ")))
	after = textElement.ReplaceAllStringFunc(after, keepWidth)
	return []byte(before + named + strings.ReplaceAll(after, "Liberation Sans", "Liberation Sans, Arial, Helvetica, sans-serif")), nil
}

var textElement = regexp.MustCompile(`<text ([^>]*)>([^<]*)</text>`)

// keepWidth gives a text the width that the figure left for it, whatever font a reader has.
func keepWidth(element string) string {
	m := textElement.FindStringSubmatch(element)
	style := plainText(ink)
	if strings.Contains(m[1], "font-weight:bold") {
		style = textStyle(textSize, true, ink)
		if strings.Contains(m[1], fmt.Sprintf("font-size:%dpx", titleSize)) {
			style = textStyle(titleSize, true, ink)
		}
	}
	width := style.Width(html.UnescapeString(m[2]))
	return fmt.Sprintf(`<text textLength="%.1f" lengthAdjust="spacingAndGlyphs" %s>%s</text>`, width.Points(), m[1], m[2])
}

// wrap breaks a text into as few lines as are no wider than that, and then into lines of about
// the same width. It breaks at spaces only, so a figure stays with its unit by a hard space.
func wrap(style draw.TextStyle, s string, width vg.Length) []string {
	lines := filled(style, s, width)
	const step = 4
	for narrower := width - step; narrower > 0; narrower -= step {
		again := filled(style, s, narrower)
		if len(again) > len(lines) || widest(style, again) > narrower {
			break
		}
		lines = again
	}
	return lines
}

func filled(style draw.TextStyle, s string, width vg.Length) (lines []string) {
	line := ""
	for word := range strings.SplitSeq(s, " ") {
		longer := strings.TrimPrefix(line+" "+word, " ")
		if line != "" && style.Width(longer) > width {
			lines = append(lines, line)
			longer = word
		}
		line = longer
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

func widest(style draw.TextStyle, lines []string) (width vg.Length) {
	for _, line := range lines {
		width = max(width, style.Width(line))
	}
	return width
}
