package health

import (
	"context"
	"errors"
)

// Target is what a check is aimed at. It is comparable and stands for itself
// in a [Monitor]: two targets that differ in any field are checked apart.
type Target struct {
	Name    string // the owner's label; no check looks at it
	Network string // "tcp", "unix" or "udp"
	Address string // "127.0.0.1:9001", "[::1]:9001" or the path of a socket
}

// Checker asks a target once how it is. Nil means healthy; an error says why
// not, unless it wraps [ErrInconclusive].
//
// Check is called concurrently for different targets. It returns soon after
// ctx ends, and leaves nothing running behind it.
type Checker interface {
	Check(ctx context.Context, t Target) error
}

// ErrInconclusive is wrapped by the error of a check that could not be made
// for want of something on this side, such as a file descriptor. It says
// nothing about the target, so it counts neither for nor against it: a
// balancer short of descriptors must not declare its backends dead.
var ErrInconclusive = errors.New("check not possible")
