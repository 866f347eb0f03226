//go:build !linux

package proxy

func stallLoops(*Server) (resume func()) { panic("no event loops here") }
