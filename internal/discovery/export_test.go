package discovery

// NewWatcherWithRandom is the seam for tests of the rhythm.
var NewWatcherWithRandom = newWatcher

const MaxInFlight = maxInFlight
