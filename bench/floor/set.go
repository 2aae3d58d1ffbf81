package main

import "sync"

// set remembers which manifests have been read. Its methods may be called
// concurrently.
type set struct {
	mu  sync.Mutex
	has map[string]bool
}

// add reports whether the digest is new.
func (s *set) add(hexadecimal string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has[hexadecimal] {
		return false
	}
	if s.has == nil {
		s.has = map[string]bool{}
	}
	s.has[hexadecimal] = true
	return true
}

func (s *set) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.has)
}
