// Package srs rewrites mail senders so that forwarded mail passes SPF, and
// brings bounces home: the Sender Rewriting Scheme.
package srs
