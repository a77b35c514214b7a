package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// floors are the storeys of the house, top first. A package may import what
// lies below it, and beside it only what besides allows.
var floors = [][]string{
	{"srsd/cmd/srsd"},
	{"srsd/internal/relay", "srsd/internal/relay/catalogue", "srsd/internal/mailtest/story"},
	{"srsd/internal/receive", "srsd/internal/deliver", "srsd/internal/postfix", "srsd/internal/control", "srsd/internal/suspend", "srsd/internal/mailtest", "srsd/internal/mailtest/realpostfix"},
	{"srsd/forward", "srsd/forward/watch", "srsd/bounce", "srsd/store", "srsd/store/storetest", "srsd/internal/guard", "srsd/internal/resolve", "srsd/internal/sender"},
	{"srsd/envelope", "srsd/srs", "srsd/spf", "srsd/spf/spflint"},
}

// besides are the arrows between packages of one floor: a part of a package and
// the package itself.
var besides = map[string][]string{
	"srsd/store/storetest": {"srsd/store"},
	"srsd/spf/spflint":     {"srsd/spf"},
}

// alone are the packages that others use without srsd: they import nothing of it.
var alone = map[string]bool{"srsd/srs": true, "srsd/spf": true, "srsd/envelope": true}

func TestImportsPointDown(t *testing.T) {
	floor := map[string]int{}
	for i, row := range floors {
		for _, p := range row {
			floor[p] = i
		}
	}
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "srsd/...").Output()
	if err != nil {
		t.Skipf("needs the go command to list the packages: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		from, known := floor[p.ImportPath]
		if !known {
			t.Errorf("%s has no floor: give it one in this test", p.ImportPath)
		}
		for _, to := range p.Imports {
			if !strings.HasPrefix(to, "srsd/") {
				continue
			}
			if floor[to] <= from && !slices.Contains(besides[p.ImportPath], to) {
				t.Errorf("%s imports %s, which is not below it", p.ImportPath, to)
			}
			if alone[p.ImportPath] {
				t.Errorf("%s imports %s, and must stand alone", p.ImportPath, to)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d packages seen", seen)
	}
}
