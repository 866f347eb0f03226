package nfct

import (
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
)

// AppendLine appends a flow as conntrack prints it, without an end of line. The line of an event has its word, and
// counters only once the flow has ended.
func (f *Flow) AppendLine(b []byte, o Output, e Event, at time.Time) []byte {
	if e != NoEvent {
		if o.Timestamp {
			b = fmt.Appendf(b, "[%d.%06d]\t", at.Unix(), at.Nanosecond()/1000)
		}
		b = append(b, [...]string{New: "    [NEW] ", Update: " [UPDATE] ", Destroy: "[DESTROY] "}[e]...)
	}
	if o.Extended {
		b = f.appendFamily(b)
	}
	b = f.appendBody(b, e == NoEvent || e == Destroy)
	if e == NoEvent {
		b = append(b, " mark=0 use=1"...)
	}
	if o.ID {
		b = append(b, " id="...)
		b = strconv.AppendUint(b, uint64(f.ID), 10)
	}
	return b
}

// AppendProc appends the line of a flow in /proc/net/nf_conntrack.
func (f *Flow) AppendProc(b []byte) []byte {
	b = f.appendBody(f.appendFamily(b), true)
	return append(b, " mark=0 zone=0 use=2\n"...)
}

// WriteProc writes /proc/net/nf_conntrack.
func WriteProc(w io.Writer, flows iter.Seq[Flow]) error {
	var line []byte
	for f := range flows {
		line = f.AppendProc(line[:0])
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

func (f *Flow) appendFamily(b []byte) []byte {
	if f.isIPv6() {
		return append(b, "ipv6     10 "...)
	}
	return append(b, "ipv4     2 "...)
}

func (f *Flow) appendBody(b []byte, hasCounters bool) []byte {
	b = fmt.Appendf(b, "%-8s %d %d", f.protocolName(), f.Protocol, f.Timeout)
	if f.Protocol == TCP {
		b = append(append(b, ' '), f.State...)
	}
	b = f.appendTuple(b, f.Original, 0, hasCounters)
	if !f.SeenReply {
		b = append(b, " [UNREPLIED]"...)
	}
	b = f.appendTuple(b, f.Reply, 1, hasCounters)
	if f.Assured {
		b = append(b, " [ASSURED]"...)
	}
	return b
}

func (f *Flow) appendTuple(b []byte, t Tuple, direction int, hasCounters bool) []byte {
	b = t.Src.Addr().AppendTo(append(b, " src="...))
	b = t.Dst.Addr().AppendTo(append(b, " dst="...))
	b = fmt.Appendf(b, " sport=%d dport=%d", t.Src.Port(), t.Dst.Port())
	if hasCounters {
		b = fmt.Appendf(b, " packets=%d bytes=%d", f.Packets[direction], f.Bytes[direction])
	}
	return b
}

// AppendSave appends the words that conntrack would make the flow by.
func (f *Flow) AppendSave(b []byte, e Event) []byte {
	b = append(b, [...]string{NoEvent: "-A", New: "-A", Update: "-U", Destroy: "-D"}[e]...)
	b = fmt.Appendf(b, " -t %d -u %s -s %v -d %v", f.Timeout, f.statusText(), f.Original.Src.Addr(), f.Original.Dst.Addr())
	from, to := "-r", "-q"
	if f.isDestinationNAT() {
		from = "-g"
	}
	if f.isSourceNAT() {
		to = "-n"
	}
	b = fmt.Appendf(b, " %s %v %s %v -p %s --sport %d --dport %d --reply-port-src %d --reply-port-dst %d",
		from, f.Reply.Src.Addr(), to, f.Reply.Dst.Addr(), f.protocolName(),
		f.Original.Src.Port(), f.Original.Dst.Port(), f.Reply.Src.Port(), f.Reply.Dst.Port())
	if f.Protocol == TCP {
		b = append(append(b, " --state "...), f.State...)
	}
	return b
}

func (f *Flow) statusText() string {
	var words []string
	if f.SeenReply {
		words = append(words, "SEEN_REPLY")
	}
	if f.Assured {
		words = append(words, "ASSURED")
	}
	if len(words) == 0 {
		return "UNSET"
	}
	return strings.Join(words, ",")
}

// The lines around flows in XML.
const (
	XMLHeader = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<conntrack>\n"
	XMLFooter = "</conntrack>\n"
)

// AppendXML appends a flow as an element.
func (f *Flow) AppendXML(b []byte, o Output, e Event, at time.Time) []byte {
	b = append(b, "<flow"...)
	if e != NoEvent {
		b = append(b, [...]string{New: ` type="new"`, Update: ` type="update"`, Destroy: ` type="destroy"`}[e]...)
	}
	b = append(b, '>')
	hasCounters := e == NoEvent || e == Destroy
	b = f.appendXMLTuple(b, "original", f.Original, 0, hasCounters)
	b = f.appendXMLTuple(b, "reply", f.Reply, 1, hasCounters)
	b = append(b, `<meta direction="independent">`...)
	if f.Protocol == TCP {
		b = fmt.Appendf(b, "<state>%s</state>", f.State)
	}
	b = fmt.Appendf(b, "<timeout>%d</timeout>", f.Timeout)
	if e == NoEvent {
		b = append(b, "<mark>0</mark><use>1</use>"...)
	}
	b = fmt.Appendf(b, "<id>%d</id>", f.ID)
	if !f.SeenReply {
		b = append(b, "<unreplied/>"...)
	}
	if f.Assured {
		b = append(b, "<assured/>"...)
	}
	b = append(b, "</meta>"...)
	if o.Timestamp && e != NoEvent {
		b = fmt.Appendf(b, "<when><hour>%d</hour><min>%d</min><sec>%d</sec><wday>%d</wday><day>%d</day><month>%d</month><year>%d</year></when>",
			at.Hour(), at.Minute(), at.Second(), at.Weekday()+1, at.Day(), at.Month(), at.Year())
	}
	return append(b, "</flow>"...)
}

func (f *Flow) appendXMLTuple(b []byte, direction string, t Tuple, i int, hasCounters bool) []byte {
	family, name := 2, "ipv4"
	if f.isIPv6() {
		family, name = 10, "ipv6"
	}
	b = fmt.Appendf(b, `<meta direction="%s"><layer3 protonum="%d" protoname="%s"><src>%v</src><dst>%v</dst></layer3>`,
		direction, family, name, t.Src.Addr(), t.Dst.Addr())
	b = fmt.Appendf(b, `<layer4 protonum="%d" protoname="%s"><sport>%d</sport><dport>%d</dport></layer4>`,
		f.Protocol, f.protocolName(), t.Src.Port(), t.Dst.Port())
	if hasCounters {
		b = fmt.Appendf(b, "<counters><packets>%d</packets><bytes>%d</bytes></counters>", f.Packets[i], f.Bytes[i])
	}
	return append(b, "</meta>"...)
}
