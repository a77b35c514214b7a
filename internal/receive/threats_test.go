package receive_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What docs/threats.md says a test shows, a test must show.
func TestThreatsNameTestsThatExist(t *testing.T) {
	const root = "../.."
	doc, err := os.ReadFile(filepath.Join(root, "docs", "threats.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)
	found := 0
	for line := range strings.SplitSeq(string(doc), "\n") {
		for part := range strings.SplitSeq(line, ";") {
			tests := names.FindAllString(part, -1)
			if len(tests) == 0 {
				continue
			}
			folder := regexp.MustCompile("`([a-z/]+)` (?:Test|Fuzz)").FindStringSubmatch(part)
			if folder == nil {
				t.Errorf("no package before %v", tests)
				continue
			}
			code := sources(t, filepath.Join(root, folder[1]))
			for _, name := range tests {
				found++
				if !strings.Contains(code, "func "+name+"(") {
					t.Errorf("%s has no %s", folder[1], name)
				}
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d tests found", found)
	}
}

// sources is all test code of a folder.
func sources(t *testing.T, folder string) string {
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range files {
		code, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(code)
	}
	return b.String()
}
