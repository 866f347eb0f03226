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

// console encodes log entries for people: "15:04:05.000 info backend up service=web backend=127.0.0.1:9001".
type console struct {
	*zapcore.MapObjectEncoder // fields of the logger itself
	lines                     buffer.Pool
}

func newConsole() *console {
	return &console{MapObjectEncoder: zapcore.NewMapObjectEncoder(), lines: buffer.NewPool()}
}

// Clone is for loggers that get fields of their own.
func (c *console) Clone() zapcore.Encoder {
	clone := &console{MapObjectEncoder: zapcore.NewMapObjectEncoder(), lines: c.lines}
	maps.Copy(clone.Fields, c.Fields)
	return clone
}

// EncodeEntry writes the logger's fields by name, and then the entry's in the order given.
func (c *console) EncodeEntry(e zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line := c.lines.Get()
	line.AppendTime(e.Time, "15:04:05.000")
	line.AppendByte(' ')
	line.AppendString(e.Level.String())
	line.AppendByte(' ')
	line.AppendString(oneLine(e.Message))
	appendFields(line, c.Fields)
	for _, f := range fields {
		field := zapcore.NewMapObjectEncoder()
		f.AddTo(field)
		appendFields(line, field.Fields)
	}
	line.AppendByte('\n')
	return line, nil
}

func appendFields(line *buffer.Buffer, fields map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		line.AppendByte(' ')
		line.AppendString(key)
		line.AppendByte('=')
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
