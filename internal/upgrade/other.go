//go:build !linux

package upgrade

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// errSystem is why nothing is handed over.
var errSystem = errors.New("this system cannot hand sockets over by exec: restart usher")

// Self returns an error.
func Self() (*Binary, error) { return nil, errSystem }

// Store returns an error.
func Store([]byte) (*os.File, error) { return nil, errSystem }

// Ask returns an error.
func (b *Binary) Ask(context.Context, *os.File) (string, error) { return "", errSystem }

// Exec returns an error.
func (b *Binary) Exec(Handover, *Binary) error { return errSystem }

// Back returns an error.
func (s *Start) Back(error) error { return errSystem }

// Answer returns an error.
func Answer(io.Writer, string) error { return errSystem }

// Clock returns no time.
func Clock() time.Duration { return 0 }

// Duplicate returns an error.
func Duplicate(int) (*os.File, error) { return nil, errSystem }

// SetName does nothing.
func SetName(string) {}

func load(*os.File) ([]byte, error) { return nil, errSystem }

func setCloseOnExec(int, bool) error { return errSystem }
