//go:build !linux

package health

import "os/exec"

// awaitExit waits until a program ends, and reaps it; there is no portable way to leave
// it unreaped. A signal to its group could in theory reach another one, if all process
// ids are used up between two system calls.
func awaitExit(cmd *exec.Cmd) (reaped bool, err error) { return true, cmd.Wait() }
