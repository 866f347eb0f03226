// Package terminal gives a program the keys and the screen of its terminal, and puts the terminal back as it was.
//
//	Open ─▶ raw mode, full screen ─▶ Keys, Write, Draw ─▶ Close
//	             ▲    │
//	             │    └─ Ctrl-Z, SIGTSTP: put back, stop ─▶ SIGCONT ─┐
//	             └────────────────── in the foreground ◀─────────────┘
//
// SIGINT, SIGTERM, SIGHUP and SIGQUIT put the terminal back first, and have their own effect after that. So do panics of a
// function that [Terminal.Guard] protects. Only SIGKILL and a fatal error of the runtime leave the terminal as it is.
//
// A newline still goes to the first column: output processing stays on, so that logs and stack traces look as always.
//
// [HasColour], [CanMove] and [IsUTF8] decide for the whole program what a terminal can show. [Width] and [Cut] measure
// text in cells.
package terminal
