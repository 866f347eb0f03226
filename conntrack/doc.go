// Package conntrack is the connection table: which client talks to which backend
// through which service, since when, how much, and until when.
//
// # What it owns
//
//	Table     the flows of one worker, found by ID, and by Key if indexed
//	Entry     one flow: key, service, backend, state, times, byte counters
//	Affinity  which backend a client was given, for its next flows
//
// Package proxy calls it: each worker owns one Table for TCP and one for UDP, all
// workers share one Affinity.
//
// # States
//
//	TCP       Connecting ──▶ Established ──▶ HalfClosed ──▶ Closing ──▶ removed
//	          Connecting ◀──▶ Waiting, Queued
//	UDP       Unreplied ──Assure──▶ Assured ──▶ removed
//	affinity  with flows ──last Release──▶ without flows ──timeout──▶ removed
//	          with flows ◀───Get, Put───── without flows
//
// A TCP flow may skip states forward. Remove and eviction work in any state.
//
// # Concurrency
//
// One goroutine at a time, the owner, changes a Table. It takes no lock, and
// allocates nothing once the table has its working size. Any goroutine may read
// [Table.Rows] and [Table.Len] at any time without slowing the owner.
// An [Affinity] locks one of its shards for a short step at a time.
//
// # Deadlines
//
// Each entry has one deadline in a hierarchical timer wheel. Traffic does not move
// it: counting bytes only stores the time in Touched. When the deadline passes, the
// owner compares Touched with its timeout and ends the flow or arms it again.
// So a busy flow costs the wheel one visit per timeout, not one per read.
//
// # Eviction
//
// Where flows have no socket, as with UDP, strangers can fill the table. An indexed
// table therefore knows, for each service, the flow that has waited longest for a
// first reply. In any table the owner may mark flows as idle; the one marked first
// goes first.
//
// # Cost
//
// All operations on one entry are O(1). An entry takes [EntryBytes], in an indexed
// table [IndexedBytes] more; an affinity entry takes [AffinityBytes].
//
// The package has no clock: each time is a [time.Duration] since a start that the
// caller chooses, on a clock that does not run backwards. Hashes have a random seed,
// so that strangers cannot choose keys that collide. No result depends on the seed,
// except which affinity entry a full and sharded Affinity evicts.
package conntrack
