package proxy

import (
	"reflect"
	"slices"
	"testing"
)

// TestEveryFieldIsHandedOver fails if a field of what an event loop keeps of a flow is neither
// saved nor derived.
func TestEveryFieldIsHandedOver(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		of      any
		saved   []string
		derived map[string]string
	}{
		{conn{}, []string{"half", "Flow"}, map[string]string{"queued": "all with something to do are queued"}},
		{half{}, []string{
			"fd", "readable", "writable", "probing", "watched", "roomy", "probed", "ended", "broken",
			"splicing", "nosplice", "bulk", "full", "small", "pipe", "rest", "preface",
		}, map[string]string{"gen": "events are those of the new epoll instance", "buf": "of the new pool"}},
		{pipe{}, []string{"r", "w", "held"}, map[string]string{"size": "the kernel is asked"}},
		{udpSocket{}, []string{"fd", "gso", "drops", "listener", "front", "name", "nameLen"}, map[string]string{
			"gen": "events are those of the new epoll instance", "pending": "zero between two turns",
			"head": "of pending", "tail": "of pending",
		}},
		{udpListener{}, []string{
			"fd", "at", "local", "wildcard", "v6", "gso", "merges", "drops", "replies", "isLeaving", "hasLeft", "isInherited",
		}, map[string]string{"gen": "events are those of the new epoll instance", "sessions": "counted"}},
		{binding{}, []string{"Binding", "at", "local", "path", "splits", "file", "sockets"}, map[string]string{
			"joins": "of the time when it was bound", "claims": "of Binding", "descriptors": "counted",
		}},
		{epollSockets{}, []string{"fds", "isShared", "udp", "slots"}, map[string]string{
			"first": "chosen anew", "isRestored": "set",
		}},
		{datagrams{}, []string{"sessions", "listeners", "sockets"}, map[string]string{
			"w": "the new worker", "freeSlots": "found", "left": "found", "unregistered": "all are registered", "fronts": "counted",
			"leaving": "empty between two Applies", "nowLeft": "of leaving",
			"in": "of a turn", "segments": "of a turn", "next": "of a turn", "skips": "of a turn", "arrival": "of a turn", "routing": "of a turn", "turn": "of a turn", "up": "of a turn",
			"single": "of a turn", "again": "of a turn", "back": "flushed", "held": "flushed", "down": "flushed", "downFrom": "flushed",
			"head": "of a call",
		}},
		{worker{}, []string{"table", "conns", "udp", "load"}, map[string]string{
			"door": "of a call", "interfaces": "asked anew",
			"server": "the new one", "number": "the index", "ep": "a new one", "wakeup": "a new one", "workers": "the new ones",
			"asking": "an old request", "asked": "answered", "newcomers": "answered", "answers": "answered", "roomFound": "answered",
			"acceptors": "adopted by Start", "freeSlots": "of acceptors", "closing": "empty between two Applies",
			"paused": "tried anew", "blocked": "tried anew", "resume": "tried anew", "pipes": "those lent are counted", "rests": "empty",
			"again": "all with something to do", "buffer": "of a turn", "events": "of a turn", "sa": "of a call", "info": "of a call",
			"now": "the clock", "began": "of a turn", "turn": "of a turn", "short": "of turns before", "fire": "bound",
			"share": "of a turn", "until": "of a turn", "halted": "no", "parking": "no", "ephemeral": "read", "mu": "free", "tasks": "run",
			"feed": "a new one",
		}},
		{Server{}, []string{
			"affinity", "given", "byName", "bindings", "files", "running", "epoch", "workers",
		}, map[string]string{
			"seed": "a new one", "engine": "epoll", "kind": "epoll", "log": "an option", "access": "an option", "wanted": "an option",
			"capacity": "from the limit", "pipes": "from the limit", "admission": "counted flow by flow", "expiry": "started",
			"done": "open", "applying": "free", "started": "by Start", "expires": "started", "sockets": "summed", "datagrams": "summed",
			"inherited": "the first image has taken all", "places": "divided", "ports": "divided", "draining": "no", "stopping": "free", "stopped": "no",
			"restored": "found again", "rejoins": "set", "asksInterface": "by SetRules", "counting": "free", "countedAt": "asked anew", "rebalancing": "the caller asks anew", "cutting": "free", "hasLoop": "by Start",
			"followers": "readers follow anew",
		}},
	} {
		kind := reflect.TypeOf(tt.of)
		known := slices.Clone(tt.saved)
		for name := range tt.derived {
			known = append(known, name)
		}
		for i := range kind.NumField() {
			name := kind.Field(i).Name
			at := slices.Index(known, name)
			if at < 0 {
				t.Errorf("%v.%s is neither handed over nor derived", kind, name)
				continue
			}
			known = slices.Delete(known, at, at+1)
		}
		for _, name := range known {
			t.Errorf("%v has no field %s", kind, name)
		}
	}
}
