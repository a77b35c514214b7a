package srs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseKeys(t *testing.T) {
	for _, x := range []struct {
		name, text string
		want       string // "id=secret" joined by newlines
	}{
		{"plain", "the-first-secret-\nthe-second-secret\n", "line1=the-first-secret-\nline2=the-second-secret"},
		{"plain, no newline", "the-first-secret-", "line1=the-first-secret-"},
		{"plain, CRLF and empty lines", "\r\nthe-first-secret-\r\n\nthe-second-secret\r\n", "line2=the-first-secret-\nline4=the-second-secret"},
		{"plain, spaces kept", " the first secret \n", "line1= the first secret "},
		{"plain, hash inside", "the#first#secret#\n", "line1=the#first#secret#"},
		{"keys", "srsd-keys 1\nk2 the-second-secret\nk1 the-first-secret-\n", "k2=the-second-secret\nk1=the-first-secret-"},
		{"keys, CRLF", "srsd-keys 1\r\nk2 the-second-secret\r\n", "k2=the-second-secret"},
		{"keys, comments", "srsd-keys 1\n# why\n\n  \nk1\tthe-first#secret-  # in use\n", "k1=the-first#secret-"},
		{"keys, quoted", "srsd-keys 1\nk1 \"the first \\\"secret\\\"\" accept-until=2030-01-01\n", `k1=the first "secret"`},
	} {
		keys, err := ParseKeys([]byte(x.text))
		if err != nil {
			t.Errorf("%s: %v", x.name, err)
			continue
		}
		var got []string
		for _, k := range keys {
			got = append(got, k.ID+"="+string(k.hasher.secret))
		}
		if s := strings.Join(got, "\n"); s != x.want {
			t.Errorf("%s: %q, want %q", x.name, s, x.want)
		}
	}
}

func TestParseKeysRefuses(t *testing.T) {
	const good = "the-secret-of-the-tests"
	for _, x := range []struct{ name, text, says string }{
		{"empty", "", "no key"},
		{"blank", "\n\n", "no key"},
		{"header only", "srsd-keys 1\n# nothing\n", "no key"},
		{"keys of another version", "srsd-keys 10\n" + good + "\n", `line 1: begins with "srsd-keys 1", and goes on`},
		{"more behind the header", "srsd-keys 1 # ours\nk1 " + good + "\n", `line 1: begins with "srsd-keys 1", and goes on`},
		{"comment first", "# the key\n" + good + "\n", "line 1: a comment, which PostSRSd would take for a secret"},
		{"comment later", good + "\n#" + good + "\n", "line 2: a comment"},
		{"short", good + "\nfifteen octets.\n", "line 2: the secret has 15 octets, 16 are the least"},
		{"long line", good + "\n" + strings.Repeat("x", 1024) + "\n", "line 2: 1024 octets"},
		{"keys, short", "srsd-keys 1\nk1 shorty\n", "line 2: the secret has 6 octets"},
		{"keys, id only", "srsd-keys 1\nk1\n", "line 2: no secret"},
		{"keys, comment for a secret", "srsd-keys 1\nk1 # " + good + "\n", "line 2: no secret"},
		{"keys, odd id", "srsd-keys 1\nk/1 " + good + "\n", "line 2: the id"},
		{"keys, long id", "srsd-keys 1\n" + strings.Repeat("k", 33) + " " + good + "\n", "line 2: the id"},
		{"keys, twice", "srsd-keys 1\nk1 " + good + "\nk1 " + good + "\n", "line 3: the id k1 is taken"},
		{"keys, date", "srsd-keys 1\nk1 " + good + " sign-until=tomorrow\n", "line 2: key k1: sign-until is no date"},
		{"keys, option", "srsd-keys 1\nk1 " + good + " until=2030-01-01\n", "line 2: key k1: behind the secret"},
		{"keys, option twice", "srsd-keys 1\nk1 " + good + " sign-until=2030-01-01 sign-until=2030-01-01\n", "line 2: key k1: sign-until twice"},
		{"keys, words", "srsd-keys 1\nk1 " + good + " " + good + "\n", "line 2: key k1: behind the secret"},
		{"keys, open quote", "srsd-keys 1\nk1 \"" + good + "\n", "line 2: the quote"},
	} {
		_, err := ParseKeys([]byte(x.text))
		if err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v, want %q", x.name, err, x.says)
		}
		if err != nil && strings.Contains(err.Error(), good) {
			t.Errorf("%s: the secret is in %q", x.name, err)
		}
	}
}

// The address that "srs --secretfile" of Mail::SRS 0.31 prints.
func TestKeepNewline(t *testing.T) {
	keys, err := ParseKeys([]byte("tops3cret-tops3cret\n"), KeepNewline)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(keys[0].hasher.secret); got != "tops3cret-tops3cret\n" {
		t.Errorf("%q", got)
	}
}

func TestKeyDates(t *testing.T) {
	keys, err := ParseKeys([]byte(`srsd-keys 1
k3 the-third-secret- accept-until=2025-01-01
k2 the-second-secret sign-until=2025-06-30 accept-until=2025-07-21
k1 the-first-secret-
`))
	if err != nil {
		t.Fatal(err)
	}
	r := &Rewriter{Domain: "fwd.example", Keys: keys}
	set := func(s string) {
		now, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		r.Now = func() time.Time { return now }
	}
	for _, x := range []struct{ at, signs string }{
		{"2025-01-01T23:59:59Z", "k3"}, {"2025-01-02T00:00:00Z", "k2"}, {"2025-06-30T23:59:59Z", "k2"}, {"2025-07-01T00:00:00Z", "k1"},
	} {
		set(x.at)
		out, err := r.Forward("alice@example.com")
		if e := r.Explain(out); err != nil || e.Key != x.signs || !e.Valid {
			t.Errorf("%s: %+v, %v; want %s", x.at, e, err, x.signs)
		}
	}
	set("2025-06-30T12:00:00Z")
	out, _ := r.Forward("alice@example.com")
	set("2025-07-21T23:59:59Z")
	if _, err := r.Reverse(out); err != nil {
		t.Errorf("on the last day: %v", err)
	}
	set("2025-07-22T00:00:00Z")
	if _, err := r.Reverse(out); !errors.Is(err, ErrHash) {
		t.Errorf("behind the last day: %v", err)
	}
	r.Keys = keys[:1]
	if _, err := r.Forward("alice@example.com"); !errors.Is(err, ErrConfig) {
		t.Errorf("no key left: %v", err)
	}
}

func TestLoadKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets")
	write := func(mode os.FileMode) {
		if err := os.WriteFile(path, []byte("the-secret-of-the-tests\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	root := os.Geteuid() == 0
	for mode, good := range map[os.FileMode]bool{
		0o600: true, 0o400: true, 0o640: false, 0o440: false, 0o644: false, 0o604: false, 0o660: false, 0o602: false, 0o610: false, 0o700: false,
	} {
		write(mode)
		keys, err := LoadKeys(path)
		if (err == nil) != good || good && len(keys) != 1 {
			t.Errorf("mode %o: %v, %v", mode, keys, err)
		}
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("mode %o: the file is not named in %v", mode, err)
		}
		os.Remove(path)
	}
	if root {
		write(0o600)
		if err := os.Chown(path, 65534, 65534); err == nil {
			if _, err := LoadKeys(path); err == nil || !strings.Contains(err.Error(), "owned by user 65534") {
				t.Errorf("another's file: %v", err)
			}
		}
		os.Remove(path)
	}
	if _, err := LoadKeys(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := LoadKeys(t.TempDir()); err == nil {
		t.Error("a directory is no secrets file")
	}
	write(0o600)
	os.WriteFile(path, []byte("short\n"), 0o600)
	if _, err := LoadKeys(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("%v does not name file and line", err)
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	const secret = "very-secret-indeed"
	k := NewKey("k1", []byte(secret))
	r := Rewriter{Domain: "fwd.example", Keys: Keys{k}}
	if _, err := r.Forward("alice@example.com"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, v := range []any{k, &k, r.Keys, r, &r, struct{ K Key }{k}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		data, _ := json.Marshal(v)
		out.Write(data)
		slog.New(slog.NewTextHandler(&out, nil)).Info("key", "key", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("key", "key", v)
	}
	for _, leak := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprint([]byte(secret))[1:20], fmt.Sprintf("%#v", []byte(secret))[8:30]} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q is in %s", leak, out.String())
		}
	}
	if got := fmt.Sprintf("%v %s", k, r.Keys); got != "key k1 [key k1]" {
		t.Errorf("%s", got)
	}
}
