//go:build !unix || solaris || aix

package socketfile

// lockFolder: there is no such lock here.
func lockFolder(string) (unlock func()) { return func() {} }
