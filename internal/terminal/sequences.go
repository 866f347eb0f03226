package terminal

// Control sequences of ECMA-48 and of xterm, which every terminal of today knows. Without wrapping, a long line is cut at
// the edge, so that text has as many lines on the screen as it has newlines.
const (
	WrapOff    = "\x1b[?7l"
	WrapOn     = "\x1b[?7h"
	UpLines    = "\x1b[%dA" // to format
	LineStart  = "\r"
	EraseLine  = "\x1b[K" // from the cursor to the end of the line
	EraseBelow = "\x1b[J" // from the cursor to the end of the screen
	TopLeft    = "\x1b[H"

	moveTo          = "\x1b[%d;1H" // line, from 1
	alternateScreen = "\x1b[?1049h"
	normalScreen    = "\x1b[?1049l"
	cursorOff       = "\x1b[?25l"
	cursorOn        = "\x1b[?25h"
)

// Select Graphic Rendition (ECMA-48, 8.3.117).
const (
	Bold    = "\x1b[1m"
	Dim     = "\x1b[2m"
	Reverse = "\x1b[7m"
	Red     = "\x1b[31m"
	Green   = "\x1b[32m"
	Yellow  = "\x1b[33m"
	Cyan    = "\x1b[36m"
	Normal  = "\x1b[m"
)

const (
	enterScreen = alternateScreen + cursorOff + WrapOff
	leaveScreen = Normal + WrapOn + cursorOn + normalScreen
)
