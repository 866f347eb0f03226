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

func runReload(context.Context, reloadConfig, studyOptions, io.Writer) ([]byte, error) {
	return nil, errNotLinux
}

func runUpgrade(context.Context, upgradeConfig, studyOptions, io.Writer) ([]byte, error) {
	return nil, errNotLinux
}

func runRules(context.Context, rulesConfig, studyOptions, io.Writer) ([]byte, error) {
	return nil, errNotLinux
}

func runFlood(context.Context, studyOptions, io.Writer) ([]byte, error) { return nil, errNotLinux }

func runDoor(context.Context, studyOptions, io.Writer) ([]byte, error) { return nil, errNotLinux }

func runKube(context.Context, kubeConfig, studyOptions, io.Writer) ([]byte, error) {
	return nil, errNotLinux
}

func runDialects(context.Context, dialectConfig, studyOptions, io.Writer) ([]byte, error) {
	return nil, errNotLinux
}

func kernel() string { return runtime.GOOS }
