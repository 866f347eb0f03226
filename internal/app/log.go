package app

import (
	"bytes"
	"io"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"usher/internal/config"
)

// openLog returns a logger to w: lines for people on a terminal, JSON for machines elsewhere, unless p says which. It
// never waits for w. To close the writer is the caller's.
func openLog(p config.Process, w io.Writer) (*zap.Logger, *asyncWriter) {
	level, err := zapcore.ParseLevel(p.LogLevel)
	if err != nil {
		level = zapcore.InfoLevel // config lets no other word through
	}
	e := encoder(p.LogFormat == "console" || p.LogFormat == "" && isTerminal(w))
	out := newAsyncWriter(w, func(lines uint64) []byte {
		entry := zapcore.Entry{Level: zapcore.WarnLevel, Time: time.Now(), Message: "log lines dropped, their reader is too slow"}
		line, err := e.Clone().EncodeEntry(entry, []zapcore.Field{zap.Uint64("lines", lines)})
		if err != nil {
			return nil
		}
		defer line.Free()
		return bytes.Clone(line.Bytes())
	}, nil)
	return zap.New(zapcore.NewCore(e, zapcore.AddSync(out), level)), out
}

func encoder(console bool) zapcore.Encoder {
	if console {
		return newConsole()
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

// isTerminal reports whether somebody may be looking at w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
