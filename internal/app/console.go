package app

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// console encodes log entries for people: "15:04:05.000 info backend up service=web backend=127.0.0.1:9001". With colours
// the levels stand out, and times and the names of fields step back.
type console struct {
	*zapcore.MapObjectEncoder // fields of the logger itself
	lines                     buffer.Pool
	hasColour                 bool
}

func newConsole(hasColour bool) *console {
	return &console{MapObjectEncoder: zapcore.NewMapObjectEncoder(), lines: buffer.NewPool(), hasColour: hasColour}
}

// Select Graphic Rendition of ECMA-48: a terminal's own colours, readable on dark and light ones.
const (
	plain  = "\x1b[0m"
	dim    = "\x1b[2m"
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
)

// append writes text in a colour, if there are any.
func (c *console) append(line *buffer.Buffer, colour, text string) {
	if !c.hasColour || colour == "" {
		line.AppendString(text)
		return
	}
	line.AppendString(colour)
	line.AppendString(text)
	line.AppendString(plain)
}

// Clone is for loggers that get fields of their own.
func (c *console) Clone() zapcore.Encoder {
	clone := &console{MapObjectEncoder: zapcore.NewMapObjectEncoder(), lines: c.lines, hasColour: c.hasColour}
	maps.Copy(clone.Fields, c.Fields)
	return clone
}

// EncodeEntry writes the logger's fields by name, and then the entry's in the order given.
func (c *console) EncodeEntry(e zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line := c.lines.Get()
	c.append(line, dim, e.Time.Format("15:04:05.000"))
	line.AppendByte(' ')
	c.append(line, colourOf(e.Level), e.Level.String())
	line.AppendByte(' ')
	line.AppendString(oneLine(e.Message))
	c.appendFields(line, c.Fields)
	for _, f := range fields {
		field := zapcore.NewMapObjectEncoder()
		f.AddTo(field)
		c.appendFields(line, field.Fields)
	}
	line.AppendByte('\n')
	return line, nil
}

// colourOf returns that of a level; those above error are red, too.
func colourOf(l zapcore.Level) string {
	switch {
	case l >= zapcore.ErrorLevel:
		return red
	case l == zapcore.WarnLevel:
		return yellow
	case l < zapcore.InfoLevel:
		return dim
	}
	return ""
}

func (c *console) appendFields(line *buffer.Buffer, fields map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		line.AppendByte(' ')
		c.append(line, dim, key+"=")
		line.AppendString(quoted(text(fields[key])))
	}
}

func text(value any) string {
	switch v := value.(type) {
	case time.Duration:
		return v.Round(time.Microsecond).String()
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		parts := make([]string, len(v))
		for i, part := range v {
			parts[i] = text(part)
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(value)
}

// quoted puts a value in quotes if it could be taken for more than one.
func quoted(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '"' || !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// oneLine escapes what would break a message into two lines or start an escape sequence.
func oneLine(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
