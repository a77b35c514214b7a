package bounce

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func failures(t *testing.T, text string) (all []string) {
	t.Helper()
	found, err := testHider().Failures(bytes.NewReader([]byte(text)), ann)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		all = append(all, fmt.Sprint(f.Alias, " ", f.Target, " ", f.Reply.Status()))
	}
	return all
}

func TestFailures(t *testing.T) {
	files, _ := filepath.Glob("testdata/reports/*.eml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got := failures(t, crlf(string(data)))
		want := "jo@alumni.example jo.private@target.example 5.1.1"
		if strings.Contains(file, "exchange") {
			want += "0"
		}
		if strings.Contains(file, "exim") { // it gives 5.0.0 and says more in words
			want = strings.ReplaceAll(want, "5.1.1", "5.0.0")
		}
		if len(got) == 0 || got[0] != want {
			t.Errorf("%s: %q", file, got)
		}
	}
	two := "Content-Type: text/rfc822-headers\n\nDelivered-To: two@alumni.example\n"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"no report":            {"From: x@y.example\r\n\r\n<jo.private@target.example>: 5.1.1 gone\r\n", nil},
		"a delay":              {report(plainText, strings.NewReplacer("failed", "delayed", "5.1.1", "4.4.1").Replace(joStatus), joCopy), nil},
		"a success":            {report(plainText, strings.NewReplacer("failed", "delivered", "5.1.1", "2.0.0").Replace(joStatus), joCopy), nil},
		"somebody else":        {report(plainText, strings.ReplaceAll(joStatus, "jo.private", "who"), "Content-Type: text/plain\n\n\n"), nil},
		"forwarded on":         {report(plainText, strings.ReplaceAll(joStatus, "jo.private@target", "last@far"), joCopy), []string{"jo@alumni.example jo.private@target.example 5.1.1"}},
		"one of two":           {report(plainText, strings.ReplaceAll(joStatus, "jo.private", "a.private"), two), []string{"two@alumni.example a.private@target.example 5.1.1"}},
		"one of two, which is": {report(plainText, strings.ReplaceAll(joStatus, "jo.private@target", "last@far"), two), nil},
		"not parsable":         {"Content-Type: multipart/report\r\n\r\n", nil},
	} {
		if diff := cmp.Diff(c.want, failures(t, c.text)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
