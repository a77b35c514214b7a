package srs

import "strings"

// An Explanation is an SRS address field by field.
type Explanation struct {
	Kind      string `json:"kind"`      // "SRS0", "SRS1", "token"; "" for what is none of them
	Format    string `json:"format"`    // the format that signed: "srsd" or "classic"; "" if none did
	Key       string `json:"key"`       // the ID of the key that signed; "" if none did
	Hash      string `json:"hash"`      // as it stands in the address
	Timestamp string `json:"timestamp"` // two characters; that of the inner text for SRS1
	AgeDays   int    `json:"age_days"`  // days since Timestamp; negative if it is ahead
	Domain    string `json:"domain"`    // the original sender's, the first forwarder's for SRS1
	Local     string `json:"local"`     // the original local part without quotes, the inner text for SRS1, the id of a token
	Valid     bool   `json:"valid"`     // Reverse accepts it, or ParseToken
	Error     string `json:"error"`     // the check that refuses it
	Reverse   string `json:"reverse"`   // where it leads, or would if it were valid
	NextHop   string `json:"next_hop"`  // the domain of Reverse
	Err       error  `json:"-"`         // Error, for errors.Is
}

// Explain takes an address apart and says which check refuses it. Unlike
// Reverse, it shows the fields of what is forged, expired or another's too.
func (r *Rewriter) Explain(srsAddress string) Explanation {
	e, err := r.explain(srsAddress)
	e.Valid, e.Err = err == nil, err
	if err != nil {
		e.Error = err.Error()
	}
	return e
}

func (r *Rewriter) explain(srsAddress string) (e Explanation, err error) {
	if err := r.Validate(); err != nil {
		return e, err
	}
	a, err := split(srsAddress)
	if err != nil {
		return e, err
	}
	if !IsSRS(a.local) {
		return e, ErrNotSRS
	}
	now := r.now()
	p, err := parseFields(a)
	e.fields(&p, dayNumber(now))
	if !r.owns(a.domain) {
		return e, ErrNotOurs
	}
	if err != nil {
		return e, err
	}
	v, err := r.verify(&p, now)
	if v.signed {
		e.Format, e.Key = v.format.String(), v.key
	}
	return e, err
}

func (e *Explanation) fields(p *parsed, today int64) {
	e.Kind = map[byte]string{kindSRS0: "SRS0", kindSRS1: "SRS1", kindToken: "token"}[p.kind]
	e.Hash, e.Timestamp, e.Domain, e.Local = p.hash, p.stamp, p.host, p.user
	if n, ok := unstamp(e.Timestamp); ok {
		e.AgeDays = age(today, n)
	}
	if p.kind != kindToken && p.host != "" && p.user != "" {
		e.Reverse = p.reversed()
		e.NextHop = strings.Trim(p.host, "[]")
	}
}
