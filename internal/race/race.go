//go:build race

// Package race says whether the race detector is compiled in. Tests alone use it, where
// the detector allocates, or slows a crowd down beyond what a test waits for.
package race

// Enabled reports whether the race detector is compiled in.
const Enabled = true
