// Package doctor says what this machine gives to usher, what that means for the number of flows and for speed, and the
// line that changes it.
//
//	Question ─ Probe ─▶ Facts ─ Judge ─▶ []Finding
//
// Probe reads: sysctls, limits, the cgroup, what sockets and pipes get. What servers decide for themselves comes from
// proxy.Predict and package reach. Judge is pure: a table with one function an item. A fact that the system does not tell
// makes its item unknown, and nothing fails.
package doctor
