package health

// Seams for tests of behaviour from outside the package.
var (
	NewMonitorWithRandom = newMonitor
	CheckTCP             = checkTCP
	Shortage             = shortage
)

const MaxInFlight = maxInFlight
