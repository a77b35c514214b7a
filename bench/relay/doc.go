// Package relay measures srsd beside Postfix with PostSRSd: the same messages
// from the same client through each of them, one after the other in one run,
// into the same sink, all on this machine.
//
//	go test -bench . -benchtime 4000x -count 3 ./relay
//
// in the folder bench. It needs Linux and root, for cgroups and for Postfix, and the
// Debian packages postfix and postsrsd; without them only srsd is measured.
// docs/performance.md explains the figures.
package relay
