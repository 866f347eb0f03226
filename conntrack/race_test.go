//go:build race

package conntrack

// The race detector allocates on its own account.
const raceEnabled = true
