// Package demo is `usher demo`: a usher that runs as a child process, and around it what a
// user brings along, all on loopback. internal/app calls it.
//
//	Run ─┬─ Child     the usher; everything is asked of it by its API
//	     ├─ Backends  small HTTP servers, which die and come back
//	     ├─ Load      clients that come and go;  Kept, clients that stay
//	     ├─ operator  obeys keys, or a script where nobody can press them
//	     └─ View      live lines, or two lines every 5 s
package demo
