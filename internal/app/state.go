package app

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/control"
	"usher/internal/dialect"
)

// stateMark begins a state. Another format has another number: what was written before knows nothing of it.
const stateMark = "usher state 1\n"

// state is all that a run leaves to the next image, as plain data.
type state struct {
	Version    string // of the program that has written it
	Executable string
	Began      time.Time
	Upgrades   int
	Suspended  time.Duration // of upgrade.Clock; 0: it was not

	File      string // the path of the config file
	FileState fileState
	Options   []configfile.Option // of the command line
	Process   []configfile.Option // in effect

	Source         string `cbor:",omitempty"` // the name of the source; empty: there is none
	SourceSettings []byte `cbor:",omitempty"`

	IgnoresHangup bool
	Hangup        bool // a reload was asked for and has not begun
	Socket, Admin int  // descriptors of the API's listeners; 0: none
	Control       *control.State
	Dialects      *dialect.State `cbor:",omitempty"` // what ipvsadm and iptables have asked for
}

// Bounds of a state; those of the data path are package proxy's.
const (
	stateItemsMost = 1 << 24
	stateKeysMost  = 1 << 20 // services, by name
	stateDepthMost = 16
)

// stateModes are strict: what a program does not know might be something that it has to go on with.
var stateModes = sync.OnceValues(func() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.EncMode()
	if err != nil {
		panic(err) // the options are constant
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		UTF8:              cbor.UTF8DecodeInvalid, // paths are bytes
		MaxArrayElements:  stateItemsMost,
		MaxMapPairs:       stateKeysMost,
		MaxNestedLevels:   stateDepthMost,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
})

func (st *state) encode() ([]byte, error) {
	enc, _ := stateModes()
	text := bytes.NewBufferString(stateMark)
	if err := enc.NewEncoder(text).Encode(st); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return text.Bytes(), nil
}

// decodeState is the reverse of encode. Of what it does not know it makes an error.
func decodeState(text []byte) (*state, error) {
	body, is := bytes.CutPrefix(text, []byte(stateMark))
	if !is {
		first, _, _ := bytes.Cut(text[:min(len(text), len(stateMark))], []byte("\n"))
		return nil, fmt.Errorf("the state begins with %q, and not with %q", first, stateMark[:len(stateMark)-1])
	}
	_, dec := stateModes()
	st := new(state)
	if err := dec.Unmarshal(body, st); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if st.Control == nil || st.Upgrades < 0 || st.Socket < 0 || st.Admin < 0 {
		return nil, errors.New("state: it is incomplete")
	}
	return st, nil
}

// settings returns the options of the process in effect.
func (st *state) settings() (settings, error) {
	p := config.DefaultProcess()
	for _, o := range st.Process {
		if err := p.Set(o.Name, o.Value); err != nil {
			return settings{}, err
		}
	}
	return settings{process: p}, p.Check()
}

// options are the options that differ from their defaults.
func options(p *config.Process) (all []configfile.Option) {
	defaults := config.DefaultProcess()
	for _, f := range defaults.Diff(p) {
		all = append(all, configfile.Option{Name: f, Value: p.Text(f)})
	}
	return all
}
