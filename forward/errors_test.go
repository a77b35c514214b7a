package forward

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"srsd/envelope"
)

var update = flag.Bool("update", false, "write what the tests see to the golden files")

// write makes a file that has been left alone for long, so that Load does not
// wait for it.
func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
	return path
}

// house is a configuration for aliases in a folder.
func house(dir string) Config {
	return Config{
		Domains:    []string{"alumni.example", "club.example", "old.example", "new.example"},
		SRSDomains: []string{"srs.alumni.example"},
		Files:      []string{filepath.Join(dir, "aliases")},
		IncludeDir: filepath.Join(dir, "include"),
		Postmaster: envelope.MustParse("root@target.example"),
	}
}

// said is what Load has to say, with the folder's name taken out.
func said(t *testing.T, c Config, dir string) string {
	t.Helper()
	table, err := Load(c)
	var list ErrorList
	if err == nil {
		list = table.Warnings()
	} else if !errors.As(err, &list) {
		t.Fatal(err)
	}
	if list.Fatal() != (err != nil) {
		t.Errorf("Fatal %v, error %v", list.Fatal(), err)
	}
	text := strings.ReplaceAll(list.Error(), dir+"/", "")
	if text != "" {
		text += "\n"
	}
	return text
}

func TestErrors(t *testing.T) {
	paths, err := filepath.Glob("testdata/errors/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			want := -1
			for i, f := range a.Files {
				if f.Name == "want" {
					want = i
					continue
				}
				// A last line of "\" stands for a file that does not end in a newline.
				text := strings.TrimSuffix(string(f.Data), "\\\n")
				write(t, dir, f.Name, strings.ReplaceAll(text, "INCLUDE", dir+"/include"))
			}
			fixtures(t, dir)
			c := house(dir)
			c.Postfix = strings.Contains(string(a.Comment), "Postfix: true")
			got := said(t, c, dir)
			if *update {
				a.Files[want].Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(a.Files[want].Data), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// fixtures makes what an archive cannot hold.
func fixtures(t *testing.T, dir string) {
	t.Helper()
	include := filepath.Join(dir, "include")
	if _, err := os.Stat(include); err != nil {
		return
	}
	for _, err := range []error{
		os.Chmod(filepath.Join(include, "writable"), 0o622),
		os.Symlink("members", filepath.Join(include, "link")),
		os.Symlink("/etc/passwd", filepath.Join(include, "escape")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}
