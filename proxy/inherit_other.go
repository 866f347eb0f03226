//go:build !linux

package proxy

import "errors"

var errNotInherited = errors.New("only Linux hands listening sockets over")

func inspectSocket(int) (Listener, error) { return Listener{}, errNotInherited }

func duplicate(int) (int, error) { return -1, errNotInherited }

func closeInherited(int) {}

func (e *portableEngine) inherit(*binding, int) error { return errNotInherited }
