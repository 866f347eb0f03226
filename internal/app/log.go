package app

import (
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"usher/internal/config"
)

// newLogger writes to w: lines for people on a terminal, JSON for machines elsewhere, unless p says which.
func newLogger(p config.Process, w io.Writer) *zap.Logger {
	level, err := zapcore.ParseLevel(p.LogLevel)
	if err != nil {
		level = zapcore.InfoLevel // config lets no other word through
	}
	console := p.LogFormat == "console" || p.LogFormat == "" && isTerminal(w)
	return zap.New(zapcore.NewCore(encoder(console), zapcore.Lock(zapcore.AddSync(w)), level))
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
