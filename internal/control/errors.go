package control

import (
	"errors"
	"fmt"

	"usher/internal/config"
)

// ErrShutDown is the error of a change to an usher that ends.
var ErrShutDown = errors.New("usher is shutting down and changes nothing any more")

// NotFoundError says that there is no service or backend of a name.
type NotFoundError struct {
	Kind    string // service or backend
	Name    string
	Service string   // of a backend
	Have    []string // the names that there are
}

// Error names what there is, the nearest name first.
func (e *NotFoundError) Error() string {
	have := fmt.Sprintf(" (have %d; usher ls shows them)", len(e.Have))
	if short := shorten(e.Name, e.Have); len(short) > 0 {
		have = config.OrHave(e.Name, short)
	} else if len(e.Have) == 0 {
		have = " (there is none)"
	}
	if e.Service != "" {
		return fmt.Sprintf("service %s has no %s %q%s", e.Service, e.Kind, e.Name, have)
	}
	return fmt.Sprintf("no %s %q%s", e.Kind, e.Name, have)
}

// maxHave is how many names a message lists.
const maxHave = 10

// shorten returns the names that a message has room for, with the nearest one among them.
func shorten(name string, have []string) []string {
	if len(have) <= maxHave {
		return have
	}
	near := config.Nearest(name, have)
	if near == "" {
		return nil
	}
	return []string{near}
}

// OwnerError says that a service belongs to another owner than the one that would change it.
type OwnerError struct {
	Service string
	Owner   Owner // whose it is
	file    string
}

// Error says where the service can be changed.
func (e *OwnerError) Error() string {
	return fmt.Sprintf("service %s belongs to %s: %s", e.Service, e.Owner.place(e.file), e.Owner.remedy())
}

// ConflictError says that two services cannot be together: they have one name, or would take the same clients.
type ConflictError struct {
	Service string // of the change
	Other   string // that runs
	Owner   Owner  // of the other
	Err     error  // an *config.Error; nil: both have one name
	file    string
}

// Error names both services and the owner of the one that runs.
func (e *ConflictError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("there is a service %s already, of %s", e.Service, e.Owner.place(e.file))
	}
	return fmt.Sprintf("%v (service %s is of %s)", e.Err, e.Other, e.Owner.place(e.file))
}

// Unwrap returns the error of the whole plan, or nil.
func (e *ConflictError) Unwrap() error { return e.Err }

// RuleConflictError says that two owners have the same chain, or a policy each.
type RuleConflictError struct{ Err error }

// Error names the chain and both owners.
func (e *RuleConflictError) Error() string { return e.Err.Error() }

// Unwrap returns a *config.Error.
func (e *RuleConflictError) Unwrap() error { return e.Err }

// RuleError says why a rule cannot judge.
type RuleError struct {
	Rule  string
	Owner Owner
	Err   error
	file  string
}

// Error names the rule and its owner.
func (e *RuleError) Error() string {
	return fmt.Sprintf("rule of %s: %s: %v", e.Owner.place(e.file), e.Rule, e.Err)
}

// Unwrap returns the reason.
func (e *RuleError) Unwrap() error { return e.Err }

// RebalanceError says why the flows of a service cannot be spread anew.
type RebalanceError struct {
	Service string
	Err     error
}

// Error names the service and the reason.
func (e *RebalanceError) Error() string {
	return fmt.Sprintf("service %s cannot be rebalanced: %v", e.Service, e.Err)
}

// Unwrap returns the reason.
func (e *RebalanceError) Unwrap() error { return e.Err }

// FixedError says that something of a running service cannot change.
type FixedError struct {
	Service string
	Field   config.Field
	Text    string // what to do
}

// Error says what cannot change, and what to do.
func (e *FixedError) Error() string {
	return fmt.Sprintf("service %s: %s cannot change while it runs: %s", e.Service, e.Field, e.Text)
}
