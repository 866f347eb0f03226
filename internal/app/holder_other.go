//go:build !linux

package app

import "usher/internal/config"

// holder would name the process that has a listener's address; only Linux shows it cheaply.
func holder([]config.Service) string { return "" }
