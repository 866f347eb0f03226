package main

import (
	"fmt"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// bars is a panel of horizontal bars from zero, each with its value and its spread.
type bars struct {
	title string
	unit  string // as it follows a figure: " ms"
	rows  []bar
}

// bar is a value and where its spread ends. One without a value says why in its place.
type bar struct {
	name   string
	isMain bool // what the title speaks of
	cell
	without string
}

// The height of a row, of its bar, and of the gap below the panel's name, in points.
const (
	rowHeight, barHeight = 20, 14
	belowName            = 3
)

func (b *bars) name() string      { return b.title }
func (b *bars) height() vg.Length { return vg.Length(len(b.rows))*rowHeight + belowName }
func (b *bars) samples() []line   { return nil }

func (b *bars) label(row bar) string {
	if row.isThere {
		return row.text + b.unit
	}
	return none + " " + row.without
}

func (b *bars) describe() string {
	var said []string
	for _, row := range b.rows {
		said = append(said, row.name+": "+b.label(row))
	}
	return fmt.Sprintf("%s. %s.", b.title, strings.Join(said, "; "))
}

func (b *bars) draw(c draw.Canvas) {
	c.Max.Y -= belowName
	text, strong := plainText(ink), textStyle(textSize, true, ink)
	var names vg.Length
	for _, row := range b.rows {
		names = max(names, strong.Width(row.name))
	}
	zero := c.Min.X + names + 10
	scale := b.scale(c.Max.X - zero)
	for i, row := range b.rows {
		y := c.Max.Y - (vg.Length(i)+0.5)*rowHeight
		style, fill := text, midGrey
		if row.isMain {
			style, fill = strong, palette[0]
		}
		style.XAlign = draw.XRight
		put(c, style, zero-8, y, row.name)
		end := zero
		if row.isThere {
			end += vg.Length(row.value) * scale
			c.FillPolygon(fill, []vg.Point{
				{X: zero, Y: y - barHeight/2}, {X: end, Y: y - barHeight/2}, {X: end, Y: y + barHeight/2}, {X: zero, Y: y + barHeight/2},
			})
			b.whisker(c, row, zero, scale, y)
			end = max(end, zero+vg.Length(row.to)*scale) // the label stands beyond both
		}
		style.XAlign = draw.XLeft
		put(c, style, end+7, y, b.label(row))
	}
	c.StrokeLine2(draw.LineStyle{Color: grey, Width: 1}, zero, c.Min.Y, zero, c.Max.Y)
}

// scale is as large as leaves each row its label.
func (b *bars) scale(width vg.Length) vg.Length {
	scale := vg.Length(0)
	for _, row := range b.rows {
		if !row.isThere || max(row.to, row.value) <= 0 {
			continue
		}
		fits := (width - textStyle(textSize, true, ink).Width(b.label(row)) - 9) / vg.Length(max(row.to, row.value))
		if scale == 0 || fits < scale {
			scale = fits
		}
	}
	return scale
}

// whisker draws the spread: dark, with a white edge that parts it from the bar.
func (b *bars) whisker(c draw.Canvas, row bar, zero, scale, y vg.Length) {
	from, to := zero+vg.Length(row.from)*scale, zero+vg.Length(row.to)*scale
	const cap, smallest = barHeight / 4.0, 4 // below which it cannot be told from a blot
	if to-from < smallest {
		return
	}
	for _, style := range []draw.LineStyle{{Color: white, Width: 4}, {Color: ink, Width: 1.4}} {
		c.StrokeLine2(style, from, y, to, y)
		c.StrokeLine2(style, from, y-cap, from, y+cap)
		c.StrokeLine2(style, to, y-cap, to, y+cap)
	}
}
