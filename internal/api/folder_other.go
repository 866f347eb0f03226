//go:build !unix

package api

import "io/fs"

// temporaryName: the folder for temporary files is the user's own here.
func temporaryName() string { return "usher" }

func isOurs(fs.FileInfo) bool { return true }

func isWritableByOthers(fs.FileInfo) bool { return false }
