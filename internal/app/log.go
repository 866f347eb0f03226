package app

import (
	"bytes"
	"io"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"usher/internal/config"
	"usher/internal/terminal"
)

// logger is a logger whose level can change.
type logger struct {
	*zap.Logger
	level     zap.AtomicLevel
	isConsole bool // a person reads it
}

// setLevel changes the level. Config allows no word that is none.
func (l *logger) setLevel(word string) {
	if level, err := zapcore.ParseLevel(word); err == nil {
		l.level.SetLevel(level)
	}
}

// openLog returns a logger to w. It writes lines for people on a terminal and JSON elsewhere, unless p selects one. It
// never waits for w. The caller closes the writer.
func openLog(p config.Process, w io.Writer) (*logger, *asyncWriter) {
	isConsole := p.LogFormat == "console" || p.LogFormat == "" && terminal.Is(w)
	e := encoder(isConsole, terminal.HasColour(w))
	out := newAsyncWriter(w, func(lines uint64) []byte {
		entry := zapcore.Entry{Level: zapcore.WarnLevel, Time: time.Now(), Message: "log lines dropped, their reader is too slow"}
		line, err := e.Clone().EncodeEntry(entry, []zapcore.Field{zap.Uint64("lines", lines)})
		if err != nil {
			return nil
		}
		defer line.Free()
		return bytes.Clone(line.Bytes())
	}, nil)
	l := &logger{level: zap.NewAtomicLevel(), isConsole: isConsole}
	l.setLevel(p.LogLevel)
	l.Logger = zap.New(zapcore.NewCore(e, zapcore.AddSync(out), l.level))
	return l, out
}

func encoder(isConsole, hasColour bool) zapcore.Encoder {
	if isConsole {
		return newConsole(hasColour)
	}
	return zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey:        "time",
		LevelKey:       "level",
		MessageKey:     "msg",
		EncodeTime:     zapcore.TimeEncoderOfLayout("2006-01-02T15:04:05.000Z07:00"),
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.SecondsDurationEncoder,
	})
}
