// Package nfct is the language of conntrack 1.4.7: what its command line says, and how it prints flows.
//
//	argv ─ Parse ─▶ Request          which command, which flows (Filter), how they are printed (Output)
//	Request.Match(Flow)              whether a flow is meant
//	Flow ─ AppendLine, AppendXML, AppendSave, AppendProc ─▶ text
//
// Messages and exit statuses are those of conntrack. What its kernel does and usher cannot is refused with the reason.
package nfct
