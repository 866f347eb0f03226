package terminal

import (
	"bytes"
	"sync"
)

// reader reads a device while it is started.
type reader struct {
	device *device
	chunks chan []byte // closed when the terminal is gone; nil while it is stopped

	stopping chan struct{}
	reading  sync.WaitGroup
}

func (r *reader) start() {
	if r.chunks != nil {
		return
	}
	chunks, stopping := make(chan []byte), make(chan struct{})
	r.chunks, r.stopping = chunks, stopping
	r.device.awaitInput()
	r.reading.Go(func() {
		defer close(chunks)
		var buffer [1024]byte
		for {
			n, err := r.device.read(buffer[:], stopping)
			if err != nil {
				return
			}
			select {
			case chunks <- bytes.Clone(buffer[:n]):
			case <-stopping:
				return
			}
		}
	})
}

// stop ends the reading. Where the system can interrupt a read it waits for that.
func (r *reader) stop() {
	if r.chunks == nil {
		return
	}
	close(r.stopping)
	r.device.interruptRead()
	if canInterruptRead {
		r.reading.Wait()
	}
	r.chunks = nil
}
