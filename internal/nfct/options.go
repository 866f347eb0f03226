package nfct

import "strings"

// Command is what conntrack is asked to do.
type Command uint8

const (
	None Command = iota // help
	List
	Get
	Delete
	Create
	Change
	Events
	Flush
	Count
	Statistics
	Version
	Help
	Load
	Add
)

// option is a word of the command line: of one that a command has, or a command itself.
type option struct {
	short    byte // 0: none
	long     []string
	argument argument
	command  Command                              // that it is; None: it is an option
	of       string                               // letters of the commands that take it
	refused  string                               // why usher has nothing like it
	set      func(*parser, string, *option) error // with its value
}

type argument uint8

const (
	without argument = iota
	required
	optional // of a command attached to it; of an option also the next word
)

// name is the one in messages.
func (o *option) name() string { return o.long[0] }

const (
	noMarks  = "flows of usher have neither marks of their own, labels nor a security context"
	noMaking = "a flow of usher begins with its client, and cannot be made or changed by hand: usher flows and conntrack -D show and end them"
)

// commandOptions are the commands.
var commandOptions = [...]option{
	{short: 'L', long: []string{"dump"}, argument: optional, command: List},
	{short: 'G', long: []string{"get"}, argument: optional, command: Get},
	{short: 'D', long: []string{"delete"}, argument: optional, command: Delete},
	{short: 'I', long: []string{"create"}, argument: optional, command: Create},
	{short: 'U', long: []string{"update"}, argument: optional, command: Change},
	{short: 'E', long: []string{"event"}, argument: optional, command: Events},
	{short: 'F', long: []string{"flush"}, argument: optional, command: Flush},
	{short: 'C', long: []string{"count"}, argument: optional, command: Count},
	{short: 'S', long: []string{"stats"}, argument: optional, command: Statistics},
	{short: 'V', long: []string{"version"}, command: Version},
	{short: 'h', long: []string{"help"}, command: Help},
	{short: 'R', long: []string{"load-file"}, argument: required, command: Load},
	{short: 'A', long: []string{"add"}, argument: optional, command: Add},
}

// letters of the commands, in the columns of the options.
const letters = " LGDIUEFCSVhRA"

// plainOptions are in the order in which conntrack checks them.
var plainOptions = [...]option{
	{short: 's', long: []string{"src", "orig-src"}, argument: required, of: "LGDE", set: (*parser).setPrefix},
	{short: 'd', long: []string{"dst", "orig-dst"}, argument: required, of: "LGDE", set: (*parser).setPrefix},
	{short: 'r', long: []string{"reply-src"}, argument: required, of: "LGDE", set: (*parser).setReply},
	{short: 'q', long: []string{"reply-dst"}, argument: required, of: "LGDE", set: (*parser).setReply},
	{short: 'p', long: []string{"protonum"}, argument: required, of: "LGDEh", set: (*parser).setProtocol},
	{short: 't', long: []string{"timeout"}, argument: required, of: "D", refused: noMaking},
	{short: 'u', long: []string{"status"}, argument: required, of: "LD", set: (*parser).setStatus},
	{short: 'z', long: []string{"zero"}, of: "L", refused: "counters of usher never go back"},
	{short: 'e', long: []string{"event-mask"}, argument: required, of: "E", set: (*parser).setEvents},
	{long: []string{"tuple-src"}, argument: required, of: "", set: (*parser).ignore},
	{long: []string{"tuple-dst"}, argument: required, of: "", set: (*parser).ignore},
	{long: []string{"mask-src"}, argument: required, of: "LDE", set: (*parser).setMask},
	{long: []string{"mask-dst"}, argument: required, of: "LDE", set: (*parser).setMask},
	{short: 'm', long: []string{"mark"}, argument: required, of: "LDE", set: (*parser).setMark},
	{short: 'i', long: []string{"id"}, argument: required, of: "GD", set: (*parser).setID},
	{short: 'f', long: []string{"family"}, argument: required, of: "LDEF", set: (*parser).setFamily},
	{short: 'n', long: []string{"src-nat"}, argument: optional, of: "LDE", set: (*parser).setNAT},
	{short: 'g', long: []string{"dst-nat"}, argument: optional, of: "LDE", set: (*parser).setNAT},
	{short: 'o', long: []string{"output"}, argument: required, of: "LGDE", set: (*parser).setOutput},
	{short: 'c', long: []string{"secmark"}, argument: required, of: "LE", refused: noMarks},
	{short: 'b', long: []string{"buffer-size"}, argument: required, of: "E", set: (*parser).setBuffer},
	{short: 'j', long: []string{"any-nat"}, argument: optional, of: "LE", set: (*parser).setNAT},
	{short: 'w', long: []string{"zone"}, argument: required, of: "LDE", set: (*parser).setZone},
	{short: 'l', long: []string{"label"}, argument: required, of: "LGDE", refused: noMarks},
	{long: []string{"label-add"}, argument: required, of: "", refused: noMarks},
	{long: []string{"label-del"}, argument: required, of: "", refused: noMarks},
	{long: []string{"orig-zone"}, argument: required, of: "LDE", set: (*parser).setZone},
	{long: []string{"reply-zone"}, argument: required, of: "LDE", set: (*parser).setZone},
}

// portOptions are those of tcp and udp, once -p has named one of them.
var portOptions = [...]option{
	{long: []string{"orig-port-src", "sport"}, argument: required, set: (*parser).setPort},
	{long: []string{"orig-port-dst", "dport"}, argument: required, set: (*parser).setPort},
	{long: []string{"reply-port-src"}, argument: required, set: (*parser).setPort},
	{long: []string{"reply-port-dst"}, argument: required, set: (*parser).setPort},
	{long: []string{"mask-port-src"}, argument: required, set: (*parser).ignore},
	{long: []string{"mask-port-dst"}, argument: required, set: (*parser).ignore},
	{long: []string{"tuple-port-src"}, argument: required, set: (*parser).ignore},
	{long: []string{"tuple-port-dst"}, argument: required, set: (*parser).ignore},
}

var stateOption = option{long: []string{"state"}, argument: required, set: (*parser).setState}

// lookup finds the option of a word without its value; a long one by its beginning where that is enough.
func (p *parser) lookup(name string, isLong bool) *option {
	var found *option
	for o := range p.options {
		if !isLong {
			if o.short != 0 && o.short == name[0] {
				return o
			}
			continue
		}
		for _, long := range o.long {
			switch {
			case long == name:
				return o
			case strings.HasPrefix(long, name) && found != nil && found != o:
				found = &ambiguous
			case strings.HasPrefix(long, name):
				found = o
			}
		}
	}
	if found == &ambiguous {
		return nil
	}
	return found
}

// ambiguous stands for several options.
var ambiguous option

// options yields what there is, with the protocol's own once it is known.
func (p *parser) options(yield func(*option) bool) {
	all := [][]option{commandOptions[:], plainOptions[:]}
	if p.hasPorts {
		all = append(all, portOptions[:])
	}
	for _, some := range all {
		for i := range some {
			if !yield(&some[i]) {
				return
			}
		}
	}
	if p.isTCP {
		yield(&stateOption)
	}
}
