package admin

import (
	"fmt"
	"net"
	"os"
)

// checkPeer refuses the connections of other users than that of this process and root.
func checkPeer(c *net.UnixConn) error {
	uid, err := peerUser(c)
	if err != nil {
		return fmt.Errorf("cannot see whose connection this is: %w", err)
	}
	if ours := os.Geteuid(); uid != ours && uid != 0 {
		return fmt.Errorf("this usher is of user %d, and the request of user %d: only that user and root may ask it", ours, uid)
	}
	return nil
}
