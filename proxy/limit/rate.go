// Package limit bounds how often and how many: token buckets, one or one for each client,
// and counts of what lives. It is pure: time comes in as an argument.
package limit

import "time"

// Rate is how many events there may be in a period, and how many at once.
type Rate struct {
	Events int           // positive; zero is no limit
	Per    time.Duration // a second, a minute, an hour or a day
	Burst  int           // positive
}

// IsOn reports whether there is a limit.
func (r Rate) IsOn() bool { return r.Events > 0 }
