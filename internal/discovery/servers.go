package discovery

import (
	"sync"
	"time"
)

const (
	// silentAfter is how many questions in a row a server may leave unanswered.
	silentAfter = 2
	// silentPause is how long a silent server is not asked while another answers;
	// refusedPause is the same for a port where no process listens.
	silentPause  = 10 * time.Second
	refusedPause = time.Second
	// answerValidity is how long an answer proves that a server is in use: resolv.conf
	// may change.
	answerValidity = 10 * time.Minute
)

// servers remembers which name servers answer. Package net asks the first one of
// resolv.conf first, and waits 5 s each time, however long it has been silent. A nil
// servers remembers nothing.
type servers struct {
	report func(server string, err error) // may be nil; no lock is held

	mu     sync.Mutex
	byName map[string]*server
}

type server struct {
	answered   time.Time // last answer, zero after an unanswered question
	unanswered int       // questions in a row
	reason     error     // of the last of them
	isReported bool      // as not answering
	asked      time.Time // last question
}

func newServers(report func(server string, err error)) *servers {
	return &servers{report: report, byName: make(map[string]*server)}
}

func (s *servers) serverLocked(name string) *server {
	if s.byName[name] == nil {
		s.byName[name] = new(server)
	}
	return s.byName[name]
}

// skipReason returns why a server should not be asked now, nil if it should: it did not
// answer lately, and another one does, or the port was closed.
func (s *servers) skipReason(name string) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	this, now := s.serverLocked(name), time.Now()
	if since := now.Sub(this.asked); this.unanswered >= silentAfter && since < silentPause {
		if s.hasAnswerLocked(now) || this.reason != errNoAnswer && since < refusedPause {
			return this.reason
		}
	}
	this.asked = now
	return nil
}

// hasAnswerLocked reports whether any server answers.
func (s *servers) hasAnswerLocked(now time.Time) bool {
	for _, other := range s.byName {
		if !other.answered.IsZero() && now.Sub(other.answered) < answerValidity {
			return true
		}
	}
	return false
}

func (s *servers) onAnswer(name string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	this := s.serverLocked(name)
	isBack := this.isReported
	this.answered, this.unanswered, this.isReported = time.Now(), 0, false
	s.mu.Unlock()
	if isBack && s.report != nil {
		s.report(name, nil)
	}
}

func (s *servers) onFailure(name string, err error) {
	if s == nil {
		return
	}
	s.mu.Lock()
	this := s.serverLocked(name)
	this.unanswered++
	this.answered, this.reason = time.Time{}, err
	isNew := this.unanswered >= silentAfter && !this.isReported
	this.isReported = this.isReported || isNew
	s.mu.Unlock()
	if isNew && s.report != nil {
		s.report(name, err)
	}
}
