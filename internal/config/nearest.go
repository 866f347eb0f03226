package config

import "usher/internal/nearest"

// Nearest returns the word of have that was most likely meant, or "" if none is close.
func Nearest(word string, have []string) string { return nearest.Word(word, have) }

// OrHave ends an error about an unknown word: with the nearest valid word, and all of them.
func OrHave(word string, have []string) string { return nearest.OrHave(word, have) }
