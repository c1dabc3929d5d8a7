package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// repository is the folder in which the documents name files, seen from this package.
const repository = "../.."

// block is a fenced block of a page that shows commands.
type block struct {
	line    int    // of its fence, counted from 1
	console bool   // commands begin with "$ ", and what they print follows
	text    string // without the fences
	note    string // the HTML comment just before it, "" for none
}

// The notes that a block of commands may have. A block without one is run in the session
// of its page, in the order in which they stand there.
const (
	// noteNotRun says why a block is not run and what checks it instead.
	noteNotRun = "not run: "
	// noteRunning: the block's last command stays running until the page ends, in a shell
	// of its own. The next block begins when it has printed a line.
	noteRunning = "stays running"
	// noteFails: the block's last command fails, as the page says.
	noteFails = "fails"
	// noteRunBy names the test, or .ci/run, that runs just this block elsewhere.
	noteRunBy = "run by "
)

var (
	fence       = regexp.MustCompile("^```([a-z]*)$")
	comment     = regexp.MustCompile(`^<!-- (.*) -->$`)
	commandLine = regexp.MustCompile(`^(\w+=\S+ +)*(\$|\./\w+|davit|go (run|test|build|tool|generate)|\.ci/run|release/\w+|docker|systemctl|promtool|minisign|curl|apt-get|sudo|export|kill) \S`)
)

// pagesOf finds the documents: every Markdown file but those in testdata.
func pagesOf(t *testing.T) []string {
	t.Helper()
	var pages []string
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != repository && (strings.HasPrefix(name, ".") || name == "testdata" || name == "vendor"):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(name, ".md"):
			rel, err := filepath.Rel(repository, path)
			pages = append(pages, filepath.ToSlash(rel))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

func readPage(t *testing.T, page string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// blocksOf finds the blocks of commands of a page, and says what stands where it must not: a
// command in a block of another kind, where no test would see it.
func blocksOf(text string) (blocks []block, mistakes []string) {
	var open *block
	language, last, inside := "", "", false
	for i, line := range strings.Split(text, "\n") {
		if m := fence.FindStringSubmatch(line); m != nil && !inside {
			language, inside, open = m[1], true, nil
			if language == "sh" || language == "console" {
				open = &block{line: i + 1, console: language == "console"}
				if m := comment.FindStringSubmatch(last); m != nil {
					open.note = m[1]
				}
			}
			continue
		}
		switch {
		case inside && line == "```":
			if open != nil {
				blocks = append(blocks, *open)
			}
			inside, last = false, ""
			continue
		case open != nil:
			open.text += line + "\n"
		case inside && commandLine.MatchString(line):
			mistakes = append(mistakes, fmt.Sprintf("line %d: a command in a block of %q; write ```sh or ```console", i+1, language))
		case !inside && strings.HasPrefix(line, "    ") && commandLine.MatchString(line[4:]):
			mistakes = append(mistakes, fmt.Sprintf("line %d: a command in an indented block; fence it with ```sh or ```console", i+1))
		}
		if line != "" {
			last = line
		}
	}
	if inside {
		mistakes = append(mistakes, "the last block does not end")
	}
	return blocks, mistakes
}

// script is what a shell is to run: the block itself, or the commands of a console.
func (b *block) script() string {
	if !b.console {
		return b.text
	}
	var s strings.Builder
	for _, e := range b.entries() {
		s.WriteString(e.command + "\n")
	}
	return s.String()
}

// entry is a command of a console with what it prints.
type entry struct{ command, output string }

func (b *block) entries() (all []entry) {
	more := false
	for line := range strings.Lines(b.text) {
		command, ok := strings.CutPrefix(line, "$ ")
		switch {
		case ok:
			all = append(all, entry{command: command})
		case len(all) == 0: // found by TestDocumentedCommands
		case more:
			all[len(all)-1].command += line
		default:
			all[len(all)-1].output += line
		}
		more = (ok || more) && strings.HasSuffix(line, "\\\n")
	}
	return all
}

// TestDocumentedCommands: every block of commands in the documents is either run by
// TestDocumentedSessions or says why not, and then each of its commands is one that the program would take. What a
// reason names as its check (a test, a script, .ci/run) is there.
func TestDocumentedCommands(t *testing.T) {
	tests := testNames(t)
	ci, err := os.ReadFile(filepath.Join(repository, ".ci/run"))
	if err != nil {
		t.Fatal(err)
	}
	total, parsed := 0, 0
	for _, page := range pagesOf(t) {
		blocks, mistakes := blocksOf(readPage(t, page))
		for _, m := range mistakes {
			t.Errorf("%s: %s", page, m)
		}
		for _, b := range blocks {
			total++
			at := fmt.Sprintf("%s:%d", page, b.line)
			if b.console && !strings.HasPrefix(b.text, "$ ") {
				t.Errorf("%s: a console begins with a command, \"$ ...\"", at)
			}
			commands, err := shellCommands(b.script())
			if err != nil {
				t.Errorf("%s: %v", at, err)
				continue
			}
			reason, notRun := strings.CutPrefix(b.note, noteNotRun)
			if notRun {
				parsed++
			}
			if by, elsewhere := strings.CutPrefix(b.note, noteRunBy); elsewhere {
				if reason, notRun = by, true; !namedTest.MatchString(by) && !strings.Contains(by, ".ci/run") {
					t.Errorf("%s: %q names no test", at, b.note)
				}
			}
			if !notRun && b.note != "" && b.note != noteRunning && b.note != noteFails {
				t.Errorf("%s: %q is no note of a block; there are %q, %q, %q and %q", at, b.note, noteNotRun+"...", noteRunBy+"...", noteRunning, noteFails)
			}
			for _, c := range commands {
				if err := takes(c, tests, notRun); err != nil {
					t.Errorf("%s: %s: %v", at, strings.Join(c, " "), err)
				}
				if notRun && strings.Contains(reason, ".ci/run") && !strings.Contains(string(ci), strings.Join(c, " ")) {
					t.Errorf("%s: .ci/run does not run %q", at, strings.Join(c, " "))
				}
			}
			for _, m := range namedChecks(reason, tests) {
				t.Errorf("%s: the reason names %s, which is not there", at, m)
			}
		}
	}
	if most := 12; parsed > most {
		t.Errorf("%d blocks are parsed and not run; there may be %d: run the new one", parsed, most)
	}
	if total < 75 {
		t.Errorf("%d blocks of commands; a part of the documents was not seen", total)
	}
}

var (
	namedTest   = regexp.MustCompile(`\bTest[A-Z]\w*`)
	namedScript = regexp.MustCompile(`\b[a-z]+\.txtar\b`)
)

// namedChecks are the tests and scripts that a reason names and that do not exist.
func namedChecks(reason string, tests map[string][]string) (missing []string) {
	for _, name := range namedTest.FindAllString(reason, -1) {
		if !slices.ContainsFunc(slices.Collect(maps.Values(tests)), func(in []string) bool { return slices.Contains(in, name) }) {
			missing = append(missing, name)
		}
	}
	for _, name := range namedScript.FindAllString(reason, -1) {
		if _, err := os.Stat(filepath.Join("testdata/script", name)); err != nil {
			missing = append(missing, name)
		}
	}
	return missing
}

var testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w*)\(`)

// testNames lists the tests of each folder of the repository.
func testNames(t *testing.T) map[string][]string {
	t.Helper()
	names := map[string][]string{}
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(repository, filepath.Dir(path))
		for _, m := range testFunc.FindAllSubmatch(b, -1) {
			names[filepath.ToSlash(rel)] = append(names[filepath.ToSlash(rel)], string(m[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestBlocksOf(t *testing.T) {
	text := "<!-- not run: because -->\n```sh\ndavit help\n```\n\n```console\n$ a \\\n  b\nout\n$ c\n```\n\n```text\ndavit hidden\n```\n\n    davit indented\n\n```sh\n<!-- stays running -->\n"
	blocks, mistakes := blocksOf(text)
	if len(blocks) != 2 || blocks[0].note != "not run: because" || blocks[0].text != "davit help\n" || blocks[1].note != "" {
		t.Errorf("blocks %+v", blocks)
	}
	want := []entry{{"a \\\n  b\n", "out\n"}, {"c\n", ""}}
	if got := blocks[1].entries(); !slices.Equal(got, want) {
		t.Errorf("entries %q, want %q", got, want)
	}
	if len(mistakes) != 3 {
		t.Errorf("mistakes %q, want one hidden, one indented and one open block", mistakes)
	}
}
