//go:build !unix

package health

import "os/exec"

// Without process groups the program alone is killed, and those that it leaves behind
// live on. A wait for their output ends after outputDelay.

func leadGroup(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func reapGroup(*exec.Cmd) {}
