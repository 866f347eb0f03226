// Package control holds the desired state of a running usher, and is the only one that changes what runs.
//
// An [Owner] is a source of services: the command line, the config file, the API. Each has a part of its own, which it
// replaces as a whole or changes service by service. A service has one owner, and nobody else edits it.
//
//	flags ─┐  Replace, Add,   ┌──────────────────── one at a time ─────────────────────┐
//	file  ─┼─ Update, Remove ─▶ draft: complete, names, listeners, whole plan          │
//	api   ─┘                  │   ▼                                                     │
//	                          │ proxy.Server.Prepare: binds what is new, or is refused  │
//	                          │   ▼                                                     │
//	                          │ reconcile.Reconciler.Set: pools are ready               │
//	                          │   ▼                                                     │
//	                          │ proxy.Change.Commit, ends of removed flows, log, events │
//	                          └─────────────────────────────────────────────────────────┘
//	readers ◀── a snapshot of the services, replaced by each change
//
// What a source gives is not written to any more: a service with the same pointer as before is unchanged and is passed
// over. Before [Controller.Start] addresses are bound and nobody is served.
package control
