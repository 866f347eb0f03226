//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
	"runtime"
)

var errNotLinux = errors.New("needs Linux: epoll, CPU affinity and /proc")

func run(context.Context, options, io.Writer, io.Writer) error { return errNotLinux }

func runLoad(io.Reader, io.Writer) error { return errNotLinux }

func kernel() string { return runtime.GOOS }
