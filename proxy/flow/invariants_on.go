//go:build invariants

package flow

// checking has engines check what must hold between two reports.
const checking = true
