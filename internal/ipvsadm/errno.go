package ipvsadm

// Errno is an error number of the kernel. As an error it reads as strerror says.
type Errno uint8

// The error numbers that ipvsadm knows, or that the kernel answers with.
const (
	EPERM        Errno = 1
	ENOENT       Errno = 2
	ESRCH        Errno = 3
	ENOMEM       Errno = 12
	EEXIST       Errno = 17
	EINVAL       Errno = 22
	ERANGE       Errno = 34
	EMSGSIZE     Errno = 90
	ENOPROTOOPT  Errno = 92
	EOPNOTSUPP   Errno = 95
	EAFNOSUPPORT Errno = 97
)

// Error returns the text of strerror.
func (e Errno) Error() string {
	switch e {
	case EPERM:
		return "Operation not permitted"
	case ENOENT:
		return "No such file or directory"
	case ESRCH:
		return "No such process"
	case ENOMEM:
		return "Cannot allocate memory"
	case EEXIST:
		return "File exists"
	case EINVAL:
		return "Invalid argument"
	case ERANGE:
		return "Numerical result out of range"
	case EMSGSIZE:
		return "Message too long"
	case ENOPROTOOPT:
		return "Protocol not available"
	case EOPNOTSUPP:
		return "Operation not supported"
	case EAFNOSUPPORT:
		return "Address family not supported by protocol"
	}
	return "Unknown error"
}

// Statuses with which ipvsadm ends.
const (
	statusAbsent  = 1   // the service to list is not there
	statusUsage   = 2   // of an option or a value
	statusRefused = 255 // by the kernel, or by the library that reads options
)

// Error is a command that was refused. Its text, and a line feed, are what ipvsadm writes to stderr.
type Error struct {
	Status int    `json:"status"`          // with which ipvsadm ends
	Errno  Errno  `json:"errno,omitempty"` // of the kernel; 0: the words are wrong, or usher cannot do it
	Text   string `json:"text"`

	EndsRestore bool `json:"-"` // the real ipvsadm exits there, also amid the lines of -R
}

func (e *Error) Error() string { return e.Text }

// Refuse returns the error of a command that the kernel would run and usher does not: reason says why, and what works.
func Refuse(reason string) *Error {
	return &Error{Status: statusRefused, Text: reason}
}

// Answer returns the error of a command that the kernel has refused, in the words of ipvsadm.
func (op Op) Answer(errno Errno) *Error {
	e := &Error{Status: statusRefused, Errno: errno, Text: op.text(errno)}
	if op == List {
		e.Status, e.EndsRestore = statusAbsent, true
	}
	return e
}

func (op Op) text(errno Errno) string {
	switch {
	case errno == EEXIST && op == Add:
		return "Service already exists"
	case errno == EEXIST && op == AddServer:
		return "Destination already exists"
	case errno == EEXIST && op == StartDaemon:
		return "Daemon has already run"
	case errno == ENOENT && (op == Add || op == Edit):
		return "Scheduler or persistence engine not found"
	case errno == ENOENT && (op == EditServer || op == DeleteServer):
		return "No such destination"
	case errno == ESRCH && (op == Edit || op == Delete || op == Zero || op == List):
		return "No such service"
	case errno == ESRCH && (op == AddServer || op == EditServer || op == DeleteServer):
		return "Service not defined"
	case errno == ESRCH && op == StopDaemon:
		return "No daemon is running"
	case errno == EPERM:
		return "Permission denied (you must be root)"
	case errno == EINVAL:
		return "Invalid operation.  Possibly wrong module version, address not unicast, ..."
	case errno == ENOMEM:
		return "Memory allocation problem"
	case errno == EOPNOTSUPP:
		return "Operation not supported with IPv6"
	case errno == EAFNOSUPPORT:
		return "Operation not supported with specified address family"
	case errno == EMSGSIZE:
		return "Module is wrong version"
	}
	return errno.Error()
}
