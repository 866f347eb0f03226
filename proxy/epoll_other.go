//go:build !linux

package proxy

import "errors"

// probeEpoll: there is none here.
func probeEpoll() error { return errors.New("epoll needs Linux") }

func countEpollSockets(Listener, int) int { return 0 }

func newEpollEngine(*Server) (engine, error) { return nil, probeEpoll() }

// probePipe: nothing is spliced here.
func probePipe() (size, wanted int) { return 0, 0 }
