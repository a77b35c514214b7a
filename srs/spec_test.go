package srs

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The two hashes again, as the package comment has them and as plainly as can be.
func srsdHash(secret, kind, sep, domain, stamp, host, user string) string {
	field := func(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + strings.ToLower(s) }
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("\x01" + kind + sep + field(domain) + field(stamp) + field(host) + field(user)))
	return base32.StdEncoding.EncodeToString(mac.Sum(nil))[:8]
}

func classicHash(secret, text string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(strings.ToLower(text)))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))[:4]
}

// The vectors of the package comment are what the package does, and what its
// formulas say.
func TestSpecification(t *testing.T) {
	const secret, domain, first = "tops3cret", "fwd.example", "SRS0=HHHH=G3=orig.example=alice@hop1.example"
	srsd, classic := base(FormatSRSD), base(FormatClassic)
	srs0, err0 := srsd.Forward("alice@example.com")
	srs1, err1 := srsd.Forward(first)
	token, err2 := srsd.Token([]byte{1, 2, 3})
	classic0, err3 := classic.Forward("alice@example.com")
	classic1, err4 := classic.Forward(first)
	for _, err := range []error{err0, err1, err2, err3, err4} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := []string{srs0, srs1, token, classic0, classic1}
	formulas := []string{
		"SRS0=" + srsdHash(secret, "0", "=", domain, "G3", "example.com", "alice") + "=G3=example.com=alice@fwd.example",
		"SRS1=" + srsdHash(secret, "1", "=", domain, "", "hop1.example", "=HHHH=G3=orig.example=alice") + "=hop1.example==HHHH=G3=orig.example=alice@fwd.example",
		"SRS0=" + srsdHash(secret, "T", "=", domain, "G3", "", "AEBAG") + "=G3==AEBAG@fwd.example",
		"SRS0=" + classicHash(secret, "g3example.comalice") + "=G3=example.com=alice@fwd.example",
		"SRS1=" + classicHash(secret, "hop1.example=hhhh=g3=orig.example=alice") + "=hop1.example==HHHH=G3=orig.example=alice@fwd.example",
	}
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, vectors, _ := strings.Cut(string(text), "# Test vectors")
	documented := regexp.MustCompile(`SRS[01]\S+@fwd\.example`).FindAllString(vectors, -1)
	if len(documented) < len(got) {
		t.Fatalf("the package comment has %q", documented)
	}
	for i := range got {
		if got[i] != formulas[i] || got[i] != documented[i] {
			t.Errorf("%s, the formula gives %s, the package comment %s", got[i], formulas[i], documented[i])
		}
	}
}
