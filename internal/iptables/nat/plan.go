package nat

import "usher/internal/iptables"

// Plan returns what the tables come to. Its cost is linear in the rules for tables as programs write them, and bounded by
// maxWork for all others.
func Plan(tables *iptables.Tables, env *Env) *Result {
	return &Result{}
}
