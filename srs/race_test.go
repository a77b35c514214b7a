//go:build race

package srs

// raceDetector says that sync.Pool throws things away at random.
const raceDetector = true
