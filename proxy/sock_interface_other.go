//go:build !linux

package proxy

import (
	"errors"
	"net"
)

// knowsInterfaces: a connection does not tell here by which interface it came.
func knowsInterfaces() error {
	return errors.New("rules with -i need Linux: elsewhere a connection does not tell by which interface it came")
}

func connInterface(net.Conn) string { return "" }
