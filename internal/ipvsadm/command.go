package ipvsadm

// Op is what a command does.
type Op uint8

const (
	Add          Op = iota + 1 // -A
	Edit                       // -E
	Delete                     // -D
	Flush                      // -C
	List                       // -L, -l, no words at all
	AddServer                  // -a
	DeleteServer               // -d
	EditServer                 // -e
	SetTimeouts                // --set
	StartDaemon
	StopDaemon
	Restore // -R
	Save    // -S
	Zero    // -Z
	Help    // -h
	Version // -v
)

// Command is a command line of ipvsadm.
type Command struct {
	Op          Op
	Service     Service     // the Key alone unless Op is Add or Edit
	HasService  bool        // List and Zero may do without
	Destination Destination // of AddServer, EditServer; the address alone of DeleteServer
	Timeouts    Timeouts    // of SetTimeouts; 0 keeps what is set
	Daemon      string      // of StartDaemon and StopDaemon: master or backup
	Format      Format      // of List and Save
}

// Format is how List and Save print.
type Format struct {
	Numeric        bool // -n
	Connections    bool // -c
	Timeouts       bool // --timeout
	Daemons        bool // --daemon
	Stats          bool
	Rate           bool
	Exact          bool
	Thresholds     bool
	PersistentConn bool
	TunInfo        bool
	NoSort         bool
	Verbose        bool // -v, which usher has beyond ipvsadm
}

// IsChange reports whether the command changes a State, or its counters.
func (c *Command) IsChange() bool {
	switch c.Op {
	case Add, Edit, Delete, Flush, AddServer, EditServer, DeleteServer, SetTimeouts, Zero:
		return true
	}
	return false
}

// Do runs a command that changes s. Zero only looks whether the service is there: s has no counters. The error is an
// [*Error].
func (c *Command) Do(s *State) error {
	err := c.do(s)
	if errno, ok := err.(Errno); ok {
		return c.Op.Answer(errno)
	}
	return err
}

func (c *Command) do(s *State) error {
	switch c.Op {
	case Add:
		return s.Add(c.Service)
	case Edit:
		return s.Edit(c.Service)
	case Delete:
		return s.Delete(c.Service.Key)
	case Flush:
		s.Flush()
	case AddServer:
		return s.AddDestination(c.Service.Key, c.Destination)
	case EditServer:
		return s.EditDestination(c.Service.Key, c.Destination)
	case DeleteServer:
		return s.DeleteDestination(c.Service.Key, c.Destination.Addr)
	case SetTimeouts:
		return s.SetTimeouts(c.Timeouts)
	case Zero:
		if c.HasService && s.Find(c.Service.Key) == nil {
			return ESRCH
		}
	}
	return nil
}
