package rules

import (
	"errors"
	"fmt"
)

// What can be wrong with the chains of a list.
var (
	ErrNoInput        = errors.New("the first chain is not " + Input)
	ErrPolicy         = errors.New("a policy is ACCEPT or DROP, and only a built-in chain has one")
	ErrDuplicateChain = errors.New("chain already exists")
	ErrReservedName   = errors.New("chain name may not clash with target name")
	ErrNoChain        = errors.New("chain does not exist")
	ErrLoop           = errors.New("chains form a loop")
	ErrTooDeep        = fmt.Errorf("jumps nest deeper than %d chains", mostDepth)
	ErrTooManyJumps   = fmt.Errorf("one packet could jump more than %d times", mostJumps)
)

const (
	// mostDepth bounds how deep jumps nest, as nftables does.
	mostDepth = 16
	// mostJumps bounds the jumps of one packet, which chains that call each other twice and
	// more would multiply without end.
	mostJumps = 1 << 16
)

// ChainError says what is wrong with a chain, or with a rule that jumps.
type ChainError struct {
	Err    error // one of the above
	Chain  string
	Rule   int    // the index of the rule that jumps, or -1
	Target string // the chain that it jumps to
}

func (e *ChainError) Error() string {
	if e.Rule < 0 {
		return fmt.Sprintf("chain %q: %v", e.Chain, e.Err)
	}
	return fmt.Sprintf("chain %q, rule %d: jump to %q: %v", e.Chain, e.Rule+1, e.Target, e.Err)
}

func (e *ChainError) Unwrap() error { return e.Err }

// Check returns what Compile refuses in the chains of a list, or nil.
func Check(list *List) error {
	byName, err := checkChains(list)
	if err == nil {
		_, err = checkJumps(list, byName)
	}
	return err
}

// checkChains checks the chains by themselves, and returns their indexes by name.
func checkChains(list *List) (map[string]int, error) {
	if len(list.Chains) == 0 || list.Chains[0].Name != Input {
		return nil, &ChainError{Err: ErrNoInput, Rule: -1}
	}
	byName := make(map[string]int, len(list.Chains))
	for i, c := range list.Chains {
		_, exists := byName[c.Name]
		var err error
		switch {
		case exists:
			err = ErrDuplicateChain
		case i == 0 && c.Policy != Accept && c.Policy != Drop, i > 0 && c.Policy != Continue:
			err = ErrPolicy
		case isTargetName(c.Name):
			err = ErrReservedName
		}
		if err != nil {
			return nil, &ChainError{Err: err, Chain: c.Name, Rule: -1}
		}
		byName[c.Name] = i
	}
	return byName, nil
}

func isTargetName(name string) bool {
	switch name {
	case "ACCEPT", "DROP", "REJECT", "RETURN", "LOG", "QUEUE":
		return true
	}
	return false
}

// jumpChecker walks the chains in depth, each one once.
type jumpChecker struct {
	list   *List
	byName map[string]int
	state  []jumpState
	order  []int // chains, each after those that it jumps to
}

type jumpState struct {
	isOpen, isDone bool
	depth          int // of the jumps from here
	jumps          int // that one packet can make from here, at most
}

// checkJumps checks where rules jump to, and returns the chains in an order in which each
// comes after those that it jumps to.
func checkJumps(list *List, byName map[string]int) ([]int, error) {
	c := jumpChecker{list: list, byName: byName, state: make([]jumpState, len(list.Chains))}
	for i := range list.Chains {
		if err := c.check(i); err != nil {
			return nil, err
		}
	}
	return c.order, nil
}

func (c *jumpChecker) check(i int) error {
	s := &c.state[i]
	if s.isDone {
		return nil
	}
	s.isOpen = true
	from := c.list.Chains[i]
	for n, r := range from.Rules {
		if r.Target != Jump {
			continue
		}
		failed := func(err error) error { return &ChainError{err, from.Name, n, r.Chain} }
		to, ok := c.byName[r.Chain]
		switch {
		case !ok || to == 0:
			return failed(ErrNoChain)
		case c.state[to].isOpen:
			return failed(ErrLoop)
		}
		if err := c.check(to); err != nil {
			return err
		}
		s.depth = max(s.depth, c.state[to].depth+1)
		s.jumps += c.state[to].jumps + 1
		switch {
		case s.depth > mostDepth:
			return failed(ErrTooDeep)
		case s.jumps > mostJumps:
			return failed(ErrTooManyJumps)
		}
	}
	s.isOpen, s.isDone = false, true
	c.order = append(c.order, i)
	return nil
}
