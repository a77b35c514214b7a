package spf

import "time"

// The steps of a check, in the order of an Event's life: a record was found; a
// term of it is looked at; the DNS was asked; the term has matched or not; a
// record gave its result.
const (
	StepRecord = "record"
	StepTerm   = "term"
	StepQuery  = "query"
	StepMatch  = "match"
	StepResult = "result"
)

// An Event is one step of a check, for whoever wants to show its course.
// Fields that a step does not have are zero.
type Event struct {
	Step     string        // StepRecord, StepTerm, StepQuery, StepMatch or StepResult
	Depth    int           // 0 for the domain's own record, one more for each include and redirect
	Domain   string        // whose record
	Term     string        // as published
	Target   string        // of a term: its argument after macro expansion
	Type     string        // of a query: TXT, A, AAAA, MX or PTR
	Name     string        // of a query: what was asked for
	Answer   []string      // of a query and a record, raw
	Void     bool          // of a query: an answer without records
	NXDomain bool          // of a query: the name does not exist
	Took     time.Duration // of a query
	Err      error         // of a query
	Verdict  string        // "no match" or a Result
	Reason   string        // in words, printable

	Lookups, VoidLookups int // the counters after this step
}

// trace adds what all events have. Its callers test that Trace is set, so that
// a check without one builds no events.
func (e *evaluation) trace(ev Event) {
	ev.Depth, ev.Lookups, ev.VoidLookups = e.depth, e.lookups, e.voids+len(e.doubtful)
	e.checker.Trace(ev)
}

func (e *evaluation) traceTerm(term, domain, target string) {
	if e.checker.Trace != nil {
		e.trace(Event{Step: StepTerm, Domain: domain, Term: term, Target: present(target)})
	}
}

func (e *evaluation) traceQuery(kind, name string, answer []string, meta Meta, start time.Time, err error) {
	e.trace(Event{Step: StepQuery, Type: kind, Name: name, Answer: answer, Err: err,
		Void: err == nil && len(answer) == 0, NXDomain: meta.NXDomain, Took: e.checker.now().Sub(start)})
}
