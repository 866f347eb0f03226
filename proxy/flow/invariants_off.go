//go:build !invariants

package flow

// checking would have engines check what must hold between two reports: see the build tag
// invariants.
const checking = false
