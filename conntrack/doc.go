// Package conntrack is the connection table: which client talks to which
// backend through which service, since when, how much, and until when.
//
// A [Table] belongs to one worker. One goroutine at a time, the owner, inserts,
// changes and removes entries; it takes no lock and, once the table has grown
// to its working size, allocates nothing. Any goroutine may read all rows at
// any time with [Table.Rows] and never stops or slows the owner.
//
// Each entry has one deadline, kept in a hierarchical timer wheel. Traffic does
// not move it: counting bytes only stores the time in Touched. When the
// deadline passes, the owner compares Touched with its timeout and either ends
// the flow or arms the entry for the rest. So a busy flow costs the wheel a
// visit a timeout, not a visit a read.
//
// Where flows have no socket of their own, as with UDP, each packet has to find its
// flow: a table made by [NewIndexed] finds entries by their keys, in a time that
// does not depend on how many there are or on whether the table is growing. It
// also knows which flow has waited longest for a first reply, of all or of one
// service, which is the first to go when room is needed.
//
// The package holds no clock: every time is a [time.Duration] since a start
// that the caller chose, on a clock that does not run backwards.
// Nor does anything that it returns depend on chance: the hashes of an index have a
// random seed, but which entry is found does not follow from them.
package conntrack
