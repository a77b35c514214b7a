package envelope

import "testing"

func TestReply(t *testing.T) {
	r := NewReply(550, EnhancedCode{5, 1, 1}, "no such user: %s", "jo")
	if r.String() != "550 5.1.1 no such user: jo" || !r.Permanent() || r.Temporary() || r.Accepted() {
		t.Errorf("%v", r)
	}
	if s := (Reply{Code: 451, Text: "a\nb"}).String(); s != "451 a b" {
		t.Errorf("%q", s)
	}
	if s := (Reply{Code: 421}).Status().String(); s != "4.0.0" {
		t.Errorf("status of a reply without one: %s", s)
	}
	if (EnhancedCode{}).String() != "" || !(Reply{}).IsZero() {
		t.Error("zero values")
	}
	if s := NewReply(550, EnhancedCode{5, 7, 1}, "100% no").Text; s != "100% no" {
		t.Errorf("a text without arguments is formatted: %q", s)
	}
}
