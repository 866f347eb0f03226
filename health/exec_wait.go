//go:build !linux

package health

import "os/exec"

// awaitExit returns when a program has ended. There is no portable way to leave it
// unreaped, so what is then sent to its group could in theory reach another: all other
// process ids would have to be used up between two system calls.
func awaitExit(cmd *exec.Cmd) (reaped bool, err error) { return true, cmd.Wait() }
