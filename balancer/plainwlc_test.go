package balancer

// plainWLC compares all that have flows, and lets those that are idle go round as in wrr.
type plainWLC struct {
	*plainWRR
}

func newPlainWLC() plainWLC {
	r := plainWLC{newPlainWRR()}
	r.plays = func(b *plainBackend) bool { return b.active == 0 && !b.full() }
	return r
}

func (r plainWLC) choose(candidates []*plainBackend) *plainBackend {
	var idle []*plainBackend
	for _, b := range candidates {
		if b.active == 0 {
			idle = append(idle, b)
		}
	}
	if idle != nil {
		return r.plainWRR.choose(idle)
	}
	return plainOrder{compare: byShare}.choose(candidates)
}

func (r plainWLC) chosen(b *plainBackend) {
	if b.active == 0 {
		r.plainWRR.chosen(b)
	}
}

// settle has turns that went by wait until now.
func (r plainWLC) settle() {
	r.plainWRR.settle()
	for _, b := range r.members {
		if t := r.turns[b]; b.active == 0 && t.next.Cmp(r.now) < 0 {
			t.next = t.parts(t.floor(r.now))
		}
	}
}
