package ipvsadm_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"usher/internal/ipvsadm"
)

// TestErrorsMatchIpvsadm has the kernel refuse each command with each error number.
func TestErrorsMatchIpvsadm(t *testing.T) {
	t.Parallel()
	r := newReal(t)
	for _, errno := range []ipvsadm.Errno{
		ipvsadm.EPERM, ipvsadm.ENOENT, ipvsadm.ESRCH, ipvsadm.ENOMEM, ipvsadm.EEXIST, ipvsadm.EINVAL, ipvsadm.ERANGE, ipvsadm.EMSGSIZE,
		ipvsadm.ENOPROTOOPT, ipvsadm.EOPNOTSUPP, ipvsadm.EAFNOSUPPORT,
	} {
		k := newKernel(t, ipvsadm.NewState(), unix.Errno(errno))
		for op, line := range map[ipvsadm.Op]string{
			ipvsadm.Add: "-A -t 1.2.3.4:80", ipvsadm.Edit: "-E -t 1.2.3.4:80", ipvsadm.Delete: "-D -t 1.2.3.4:80", ipvsadm.Flush: "-C",
			ipvsadm.AddServer: "-a -t 1.2.3.4:80 -r 10.0.0.1:80", ipvsadm.EditServer: "-e -t 1.2.3.4:80 -r 10.0.0.1:80",
			ipvsadm.DeleteServer: "-d -t 1.2.3.4:80 -r 10.0.0.1:80", ipvsadm.Zero: "-Z", ipvsadm.SetTimeouts: "--set 1 2 3",
			ipvsadm.StartDaemon: "--start-daemon master", ipvsadm.StopDaemon: "--stop-daemon master",
		} {
			got, want := refusal(op.Answer(errno)), r.run(t, k, "", strings.Fields(line)...)
			if got != want {
				t.Errorf("%s: %s: %+v, ipvsadm: %+v", unix.ErrnoName(unix.Errno(errno)), line, got, want)
			}
		}
	}
}
