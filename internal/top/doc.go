// Package top is usher top: services, backends and flows of a running usher on a full screen, which keys sort, filter and
// change.
//
//	terminal.Keys ─▶ Model.Press ─▶ Action ─▶ usher ─▶ Model.Finish
//	clock ─▶ Model.Question ─▶ usher ─▶ Sample ─▶ Model.Take
//	                            Model.Lines ─▶ terminal.Screen
//
// [Model] is pure: keys, samples and results go in; questions, actions and lines come out. [Run] asks and draws. A question
// asks for no more than a screen needs: services come without their backends, flows in order and cut by usher.
package top
