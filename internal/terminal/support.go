package terminal

import (
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/term"
)

// Is reports whether w is a terminal.
func Is(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// CanMove reports whether w is a terminal that can move its cursor.
func CanMove(w io.Writer) bool { return Is(w) && canMove(os.Getenv) && enableSequences(w.(*os.File)) }

// HasColour reports whether text on w may be coloured: it is such a terminal, and NO_COLOR (no-color.org) is not set.
func HasColour(w io.Writer) bool { return CanMove(w) && mayColour(os.Getenv) }

// IsUTF8 reports whether the locale's characters are those of Unicode, so that a terminal shows more than ASCII.
func IsUTF8() bool { return runtime.GOOS == "windows" || isUTF8(os.Getenv) }

func canMove(env func(string) string) bool { return env("TERM") != "dumb" }

func mayColour(env func(string) string) bool { return env("NO_COLOR") == "" }

// isUTF8 judges by the first of the variables that is set (POSIX, Environment Variables).
func isUTF8(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(env(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// Size returns the size of the terminal w in cells, and that of an old one if it is unknown.
func Size(w *os.File) (width, height int) {
	width, height, err := term.GetSize(int(w.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}
