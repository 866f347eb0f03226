//go:build linux && race

package conformance_test

const raceEnabled = true
