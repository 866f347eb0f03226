package app

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestStartOrCut: the second signal ends the process even if the start hangs. A start that ends by itself has time to
// clean up.
func TestStartOrCut(t *testing.T) {
	t.Parallel()
	second := errors.New("second signal")
	for _, tt := range []struct{ takes, signal, want time.Duration }{
		{takes: time.Second, signal: time.Hour, want: time.Second},
		{takes: time.Second, signal: 500 * time.Millisecond, want: time.Second},
		{takes: time.Hour, signal: time.Second, want: time.Second + cutStart},
	} {
		synctest.Test(t, func(t *testing.T) {
			cut, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(tt.signal, func() { cancel(second) })
			began := time.Now()
			err := startOrCut(&stopper{cut: cut}, func() error {
				time.Sleep(tt.takes)
				return nil
			})
			hung := tt.takes > tt.want
			if took := time.Since(began); took != tt.want || hung != errors.Is(err, second) || !hung && err != nil {
				t.Errorf("%+v: %v after %v", tt, err, took)
			}
			time.Sleep(time.Hour) // the abandoned start ends too
		})
	}
}
