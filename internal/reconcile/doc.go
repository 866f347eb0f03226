// Package reconcile keeps the pools of services in line with what is asked for and what is found out.
//
// A [Reconciler] owns one [Service] for each service that runs, and a work queue for all of them. Everything that can
// change a pool ends as an observation: an answer for a name, the result of a check, the report of an agent, flows that
// fail or get through. Whoever observes something stores it and adds the service to the queue; it waits for nothing else.
//
//	name watcher ─┐
//	check monitor ┤  observation   queue   Service.reconcile
//	agent monitor ┼────────────────────▶ ┌────────────────────────────────────────┐
//	data path ────┘                      │ newPlan(config, overrides,             │ specs ──▶ balancer.Pool.Update
//	                                     │         observations, now)             │ targets ▶ monitors
//	                 next deadline ◀─────│ pure: no lock, no I/O, no clock        │ lines ──▶ log
//	                                     └────────────────────────────────────────┘ ends ───▶ proxy.Server.CutBackend
//
// The queue never runs a service twice at once, and what comes while it runs is one more run. So a table is built with
// no lock held that an observer needs, and a thousand results that come together share a few builds.
//
// What is logged of a change comes in this order: its reason, then the flows that end for it, then whether the service is
// left without a backend or has one again. Nothing is logged before [Reconciler.Begin]. A line and the [Transition] that
// readers get are made of one value.
//
// All options of a service may change while it runs. A run that finds another configuration gives the pool its options,
// the outlier detection its policy, and replaces monitors whose checks are others. What was found until then counts until
// the new ones have found something.
//
// [Service.State] is all of that as plain data, and [Service.Restore] goes on from it in another process.
//
// Operators set [Override]s, by address or by name. [Service.Backends] shows what each backend is, since when, and why.
package reconcile
