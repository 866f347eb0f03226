package flow

import "testing"

// An event allocates nothing, with a reader or without.
func TestFeedAllocatesNothing(t *testing.T) {
	var d Feed
	n := 0
	report := func() { d.Put(Event{Change: Moved}) }
	take := func() { d.Take(func(*Event) { n++ }) }
	if a := testing.AllocsPerRun(100, report); a != 0 {
		t.Errorf("%v allocations without a reader", a)
	}
	d.Open()
	if a := testing.AllocsPerRun(3*FeedRoom, func() { report(); take() }); a != 0 {
		t.Errorf("%v allocations with a reader", a)
	}
	if n != 3*FeedRoom+1 {
		t.Errorf("%d events", n)
	}
}

func BenchmarkFeed(b *testing.B) {
	for name, isRead := range map[string]bool{"unread": false, "read": true} {
		b.Run(name, func(b *testing.B) {
			var d Feed
			if isRead {
				d.Open()
			}
			for i := 0; b.Loop(); i++ {
				if d.hasRoom() {
					d.Put(Event{Change: Moved})
				}
				if i%FeedRoom == 0 {
					d.Take(func(*Event) {})
				}
			}
		})
	}
}
