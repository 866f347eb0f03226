//go:build !unix

package health

import "os/exec"

// Without process groups only the program is killed; its children live on. The wait for
// their output ends after outputDelay.

func setGroup(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func reapGroup(*exec.Cmd) {}
