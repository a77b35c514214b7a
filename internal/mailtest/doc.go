// Package mailtest holds the world that a mail relay lives in, on loopback and
// under control: a DNS that answers from a text, mail servers that record what
// they get and answer what they are told, and a client that speaks a dialogue
// written down as C: and S: lines.
//
// Its sub-package story puts them around a relay and runs stories from files.
// Nothing here imports "testing", because srsd demo uses it too.
package mailtest
