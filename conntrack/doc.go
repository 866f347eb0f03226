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
// [Count] counts rows by service, backend, client or state, from any goroutine.
//
// An [Affinity] remembers which backend a client was given, so that its next flows
// go there too: a table of persistence templates, bounded like the others. It is
// asked once when a flow begins and once when it ends, by all event loops, and is
// the only part of the package that locks: for one short step at a time, in one of
// several shards.
//
// An entry costs [EntryBytes], [IndexedBytes] more in an indexed table, a template
// [TemplateBytes]. All operations on one entry are O(1) however many there are:
// chains of the index are short on average, whatever keys strangers choose, and a
// timer moves a handful of times at most before it fires.
//
// The package holds no clock: every time is a [time.Duration] since a start
// that the caller chose, on a clock that does not run backwards.
// Nor does anything that it returns depend on chance: hashes have a random seed,
// but which entry is found does not follow from them. Of templates alone, which one
// makes room in a full table does, if the table is so large that it has shards.
package conntrack
