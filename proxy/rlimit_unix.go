//go:build unix

package proxy

import "golang.org/x/sys/unix"

// raiseDescriptorLimit raises the soft limit to the hard one and returns what
// the process may open then; zero is unknown.
func raiseDescriptorLimit() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	if want := l.Max; l.Cur < want {
		soft := l.Cur
		l.Cur = want
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &l) != nil {
			l.Cur = soft // some systems state a hard limit that they do not grant
		}
	}
	const most = 1 << 30 // "unlimited", and what container runtimes set in its place
	return int(min(uint64(l.Cur), most))
}
