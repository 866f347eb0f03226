package app

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	"usher/internal/upgrade"
)

// notifyMost bounds how long a service manager may hold up a notice.
const notifyMost = time.Second

// notify sends lines to the service manager that has started this process, as sd_notify(3) does. Without one it does
// nothing. NOTIFY_SOCKET stays set: an image after this one needs it too.
func notify(lines ...string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	// Package net takes a leading @ for that of an abstract name, as systemd means it.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify %s: %w", path, err)
	}
	defer c.Close()
	if err = c.SetWriteDeadline(time.Now().Add(notifyMost)); err == nil {
		_, err = c.Write([]byte(strings.Join(lines, "\n")))
	}
	if err != nil {
		return fmt.Errorf("notify %s: %w", path, err)
	}
	return nil
}

// notice is notify for what nothing depends on.
func (r *running) notice(lines ...string) {
	if err := notify(lines...); err != nil {
		r.log.Warn("the service manager cannot be notified", zap.Strings("notice", lines), zap.Error(err))
	}
}

// noticeReload begins a reload; type notify-reload of systemd wants the time of CLOCK_MONOTONIC with it.
func (r *running) noticeReload() {
	r.notice("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", upgrade.Clock().Microseconds()), "STATUS=reloading")
}

// noticeReady says that clients are served.
func (r *running) noticeReady() {
	n, plural := len(r.control.Plan().Services), "s"
	if n == 1 {
		plural = ""
	}
	r.notice("READY=1", fmt.Sprintf("STATUS=serving %d service%s, version %s", n, plural, r.env.Version))
}

// noticeEnd says that the end has begun.
func (r *running) noticeEnd() { r.notice("STOPPING=1", "STATUS=draining") }
