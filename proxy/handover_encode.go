package proxy

import (
	"errors"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

const (
	// stateItemsMost bounds the elements of a list in an encoded state: flows, or clients
	// that have a backend.
	stateItemsMost = 1 << 22
	// stateKeysMost bounds the keys of a map: they are the fields of a struct.
	stateKeysMost = 256
	// stateDepthMost bounds the nesting.
	stateDepthMost = 16
)

var stateEncoding = sync.OnceValues(func() (cbor.EncMode, error) { return cbor.EncOptions{}.EncMode() })

// stateDecoding is strict: what it does not know might be a part of a flow.
var stateDecoding = sync.OnceValues(func() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		UTF8:              cbor.UTF8DecodeInvalid, // paths are bytes
		MaxArrayElements:  stateItemsMost,
		MaxMapPairs:       stateKeysMost,
		MaxNestedLevels:   stateDepthMost,
	}.DecMode()
})

// encodedState is a State whose workers are encoded by themselves, at the same time: they are
// most of it.
type encodedState struct {
	State   State             `cbor:"1,keyasint"`
	Workers []cbor.RawMessage `cbor:"2,keyasint"`
}

// Encode returns the state as CBOR (RFC 8949).
func (st *State) Encode() ([]byte, error) {
	mode, err := stateEncoding()
	if err != nil {
		return nil, err
	}
	x := encodedState{State: *st, Workers: make([]cbor.RawMessage, len(st.Workers))}
	x.State.Workers = nil
	err = eachWorker(len(st.Workers), func(i int) (err error) {
		x.Workers[i], err = mode.Marshal(&st.Workers[i])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	text, err := mode.Marshal(&x)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return text, nil
}

// DecodeState is the reverse of [State.Encode]. Of what it does not know it makes an error. It
// does not call Check.
func DecodeState(text []byte) (*State, error) {
	mode, err := stateDecoding()
	if err != nil {
		return nil, err
	}
	var x encodedState
	if err := mode.Unmarshal(text, &x); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if n := len(x.Workers); n > stateWorkersMost || len(x.State.Workers) > 0 {
		return nil, fmt.Errorf("state: %d workers", n+len(x.State.Workers))
	}
	x.State.Workers = make([]workerState, len(x.Workers))
	err = eachWorker(len(x.Workers), func(i int) error { return mode.Unmarshal(x.Workers[i], &x.State.Workers[i]) })
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return &x.State, nil
}

// eachWorker calls do for each of n workers at the same time, and returns the first error.
func eachWorker(n int, do func(i int) error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = do(i) })
	}
	all.Wait()
	return errors.Join(errs...)
}
