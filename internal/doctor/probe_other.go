//go:build !linux

package doctor

import "context"

// probeSystem: nothing else can be asked here.
func (f *Facts) probeSystem(context.Context) {}
