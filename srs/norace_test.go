//go:build !race

package srs

const raceDetector = false
