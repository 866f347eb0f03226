package health

// Seams for tests of behaviour from outside the package.
var (
	NewMonitorWithRandom = newMonitor
	CheckTCP             = checkTCP
	Shortage             = shortage
	Fault                = fault
)

const (
	MaxInFlight = maxInFlight
	MaxReplies  = maxReplies
)

func (c DNS) Query(id uint16) []byte                  { return c.query(id) }
func (c DNS) Judge(m []byte, id uint16) (bool, error) { return c.judge(m, id) }
