//go:build race

package discovery_test

// raceEnabled makes crowds smaller: the race detector counts the steps of each goroutine of a bubble, and gives up beyond
// some millions.
const raceEnabled = true
