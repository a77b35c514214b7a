package deliver

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"srsd/envelope"
)

func route(alias, target string) envelope.Route {
	return envelope.Route{Alias: envelope.MustParse(alias), Target: envelope.MustParse(target)}
}

func TestScrub(t *testing.T) {
	for _, c := range []struct{ name, target, text, want string }{
		{"address", "jo.private@target.example", "<jo.private@target.example>: unknown", "<jo@alumni.example>: unknown"},
		{"other case", "jo.private@target.example", "JO.Private@Target.Example unknown", "jo@alumni.example unknown"},
		{"local part alone", "jo.private@target.example", "user jo.private unknown", "user jo@alumni.example unknown"},
		{"domain alone", "jo.private@target.example", "no relaying to target.example", "no relaying to jo@alumni.example"},
		{"part of a word", "able@target.example", "mailbox unavailable", "mailbox unavailable"},
		{"spaced", "jo.private@target.example", "user j o . p r i v a t e", "refused by the destination"},
		{"broken by lines", "jo.private@target.example", "user jo.\nprivate", "refused by the destination"},
		{"quoted-printable", "jo.private@target.example", "jo.private=40target.example", "jo@alumni.example"},
		{"link", "jo.private@target.example", "see https://x.example/?u=am8ucHJpdmF0ZQ for help", "see [link] for help"},
		{"alias like the target", "jo@target.example", "jo@target.example: no jo here", "jo@alumni.example: no jo here"},
		{"lines", "x@target.example", "one\ntwo\r\nthree", "one two  three"},
		{"controls", "x@target.example", "bell\x07 \xff é", `bell\x07 \xff \u{e9}`},
		{"nothing", "x@target.example", "", "refused by the destination"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := scrub(envelope.NewReply(550, envelope.EnhancedCode{5, 1, 1}, c.text), route("jo@alumni.example", c.target))
			if got.Text != c.want || got.Code != 550 || got.Enhanced.String() != "5.1.1" {
				t.Errorf("%q, want %q", got.Text, c.want)
			}
		})
	}
}

func TestScrubOthers(t *testing.T) {
	got := scrub(envelope.NewReply(552, envelope.EnhancedCode{5, 2, 2}, "bea.private@target.example is full"),
		route("jo@alumni.example", "jo.private@target.example"), route("bea@alumni.example", "bea.private@target.example"))
	if got.Text != "another address is full" {
		t.Errorf("%q", got.Text)
	}
}

func TestScrubIsOneShortLine(t *testing.T) {
	got := scrub(envelope.Reply{Code: 550, Text: strings.Repeat("long ", 1000)}, route("jo@alumni.example", "x@target.example"))
	if len(got.Text) > maxText || strings.ContainsAny(got.Text, "\r\n") {
		t.Errorf("%d octets", len(got.Text))
	}
}

// Whatever is around a target, in whatever case, it does not come through.
func TestScrubHides(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		local := rapid.StringMatching(`[a-z]{3,8}\.[a-z0-9]{3,8}`).Draw(r, "local")
		domain := rapid.StringMatching(`[a-z]{4,9}\.(net|org)`).Draw(r, "domain")
		around := rapid.SliceOfN(rapid.StringMatching(`[ -~\n]{0,12}`), 3, 3).Draw(r, "around")
		forms := []string{local + "@" + domain, strings.ToUpper(local), domain, `"` + local + `"@` + domain, "<" + local + ">", local + " @ " + domain}
		text := around[0] + rapid.SampledFrom(forms).Draw(r, "form") + around[1] + rapid.SampledFrom(forms).Draw(r, "form2") + around[2]
		got := strings.ToLower(scrub(envelope.Reply{Code: 550, Text: text}, route("zz@alumni.example", local+"@"+domain)).Text)
		if strings.Contains(got, local) || strings.Contains(got, domain) {
			r.Fatalf("%q came through in %q", text, got)
		}
	})
}

func FuzzScrub(f *testing.F) {
	f.Add("<jo.private@target.example> unknown")
	f.Add("jo.\nprivate https://jo.private")
	f.Add("\xc4\xb0jo.private\xe2\x84\xaa@TARGET.example")
	f.Fuzz(func(t *testing.T, text string) {
		got := scrub(envelope.Reply{Code: 550, Text: text}, route("zz@alumni.example", "jo.private@target.example")).Text
		if len(got) == 0 || len(got) > maxText {
			t.Errorf("%d octets", len(got))
		}
		for i := range len(got) {
			if got[i] < ' ' || got[i] >= 0x7f {
				t.Fatalf("octet %x in %q", got[i], got)
			}
		}
		if low := strings.ToLower(got); strings.Contains(low, "jo.private") || strings.Contains(low, "target.example") {
			t.Errorf("%q", got)
		}
	})
}
