package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// shellCommands splits a script of the documents into its simple commands, each as its words without quotes,
// assignments and redirections. Of the shell's language it knows what documents use: quotes, comments, continued lines,
// pipes, lists, and commands inside $(...) and <(...), which count as commands of their own.
func shellCommands(script string) ([][]string, error) {
	s := &shellSplitter{rest: script}
	if err := s.run(); err != nil {
		return nil, err
	}
	return s.commands, nil
}

type shellSplitter struct {
	rest     string
	commands [][]string
	words    []string
	word     strings.Builder
	inWord   bool
	drop     bool // the next word is the file of a redirection
}

var errQuote = errors.New("a quote or a parenthesis does not end")

func (s *shellSplitter) run() error {
	for s.rest != "" {
		c := s.rest[0]
		s.rest = s.rest[1:]
		switch {
		case c == '\\' && strings.HasPrefix(s.rest, "\n"):
			s.rest = s.rest[1:]
		case c == '\\' && s.rest != "":
			s.add(s.rest[:1])
			s.rest = s.rest[1:]
		case c == '\'' || c == '"':
			if err := s.quoted(c); err != nil {
				return err
			}
		case (c == '$' || c == '<') && strings.HasPrefix(s.rest, "("):
			if err := s.nested(); err != nil {
				return err
			}
		case c == '#' && !s.inWord:
			_, after, _ := strings.Cut(s.rest, "\n")
			s.rest = "\n" + after
		case c == ' ' || c == '\t':
			s.endWord()
		case c == '<' || c == '>':
			s.redirect()
		case c == '\n' || c == ';' || c == '|' || c == '&':
			s.endCommand()
		default:
			s.add(string(c))
		}
	}
	s.endCommand()
	return nil
}

func (s *shellSplitter) add(text string) {
	s.word.WriteString(text)
	s.inWord = true
}

func (s *shellSplitter) quoted(quote byte) error {
	s.inWord = true
	for s.rest != "" {
		c := s.rest[0]
		s.rest = s.rest[1:]
		switch {
		case c == quote:
			return nil
		case quote == '"' && c == '$' && strings.HasPrefix(s.rest, "("):
			if err := s.nested(); err != nil {
				return err
			}
		case quote == '"' && c == '\\' && s.rest != "":
			s.add(s.rest[:1])
			s.rest = s.rest[1:]
		default:
			s.add(string(c))
		}
	}
	return errQuote
}

// nested takes a command in parentheses: it stands in a word, whose value nobody knows.
func (s *shellSplitter) nested() error {
	depth := 0
	for i := range len(s.rest) {
		switch s.rest[i] {
		case '(':
			depth++
		case ')':
			depth--
		}
		if depth == 0 {
			inner, err := shellCommands(s.rest[1:i])
			s.commands = append(s.commands, inner...)
			s.add("VALUE")
			s.rest = s.rest[i+1:]
			return err
		}
	}
	return errQuote
}

func (s *shellSplitter) redirect() {
	s.rest = strings.TrimLeft(s.rest, "<>&")
	if _, err := fmt.Sscanf(s.word.String(), "%d", new(int)); err == nil {
		s.word.Reset() // 2>FILE
		s.inWord = false
	}
	s.endWord()
	s.drop = true
}

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

func (s *shellSplitter) endWord() {
	if !s.inWord {
		return
	}
	w := s.word.String()
	s.word.Reset()
	s.inWord = false
	switch {
	case s.drop:
		s.drop = false
	case len(s.words) == 0 && assignment.MatchString(w):
	default:
		s.words = append(s.words, w)
	}
}

func (s *shellSplitter) endCommand() {
	s.endWord()
	s.drop = false
	if len(s.words) > 0 {
		s.commands = append(s.commands, s.words)
	}
	s.words = nil
}

// takes says why a command of the documents is none: davit has no such command or flag, or wants other arguments; go is
// given a package or test that does not exist; with files, a program named by its path is not in the repository.
func takes(words []string, tests map[string][]string, files bool) error {
	switch name := words[0]; {
	case name == "davit" || name == "./davit":
		return davitTakes(words[1:])
	case name == "go" && len(words) > 1:
		return goTakes(words[1:], tests)
	case files && strings.Contains(name, "/") && !filepath.IsAbs(name):
		if info, err := os.Stat(filepath.Join(repository, name)); err != nil || info.Mode()&0o111 == 0 {
			return errors.New("no such program in the repository")
		}
	}
	return nil
}

// documentedRoot is a command tree of its own for each line, as parsing sets flags.
func documentedRoot() *cobra.Command {
	p := &program{streams: streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard}}
	root := p.root()
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	return root
}

// davitTakes parses a command line of davit without running it.
func davitTakes(args []string) error {
	cmd, rest, err := documentedRoot().Find(args)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if help := cmd.Flags().Lookup("help"); help != nil && help.Changed {
		return nil
	}
	own := 0
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			own++
		}
	})
	if cmd.HasSubCommands() && own == 0 {
		return fmt.Errorf("%s needs a command", cmd.CommandPath())
	}
	return errors.Join(cmd.ValidateArgs(cmd.Flags().Args()), cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups())
}

// goTakes checks the packages of the go command, and the tests that -run and -fuzz name.
func goTakes(args []string, tests map[string][]string) error {
	var folders []string
	for _, a := range args[1:] {
		folder, all := strings.CutSuffix(a, "/...")
		if !strings.HasPrefix(a, "./") && a != "." {
			continue
		}
		if info, err := os.Stat(filepath.Join(repository, folder)); err != nil || !info.IsDir() {
			return fmt.Errorf("no folder %s", a)
		}
		if !all {
			folders = append(folders, filepath.ToSlash(filepath.Clean(folder)))
		}
	}
	if args[0] != "test" {
		return nil
	}
	for i, a := range args[:len(args)-1] {
		if a != "-run" && a != "-fuzz" {
			continue
		}
		pattern, _, _ := strings.Cut(args[i+1], "/")
		re, err := regexp.Compile(pattern)
		if err != nil {
			return err
		}
		for _, f := range folders {
			if !slices.ContainsFunc(tests[f], re.MatchString) {
				return fmt.Errorf("no test in %s matches %s", f, pattern)
			}
		}
	}
	return nil
}

func TestShellCommands(t *testing.T) {
	for _, tt := range []struct {
		script string
		want   string // words divided by |, commands by newlines
	}{
		{"a b  c # d\ne", "a|b|c\ne"},
		{"a \\\n  b", "a|b"},
		{`X=1 a 'b c' "d\"e" f\ g`, `a|b c|d"e|f g`},
		{"export T=$(cat ./token)\na", "cat|./token\nexport|T=VALUE\na"},
		{"source <(davit completion bash)", "davit|completion|bash\nsource|VALUE"},
		{"a >b 2>/dev/null <c d | e && f; g &", "a|d\ne\nf\ng"},
		{`a "$(b "c")"`, "b|c\na|VALUE"},
		{"X=$(a)", "a"},
		{"a#b", "a#b"},
	} {
		got, err := shellCommands(tt.script)
		if err != nil {
			t.Errorf("%s: %v", tt.script, err)
		}
		var lines []string
		for _, c := range got {
			lines = append(lines, strings.Join(c, "|"))
		}
		if s := strings.Join(lines, "\n"); s != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.script, s, tt.want)
		}
	}
	for _, bad := range []string{"'a", `"a`, "$(a"} {
		if _, err := shellCommands(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestTakes(t *testing.T) {
	tests := map[string][]string{"cmd/davit": {"TestTakes"}}
	for _, tt := range []struct {
		command string
		good    bool
	}{
		{"davit job create --name a --image IMAGE --device b --start", true},
		{"./davit help", true},
		{"davit help job", true},
		{"davit completion bash", true},
		{"davit job create --help", true},
		{"davit job", false},
		{"davit jobs create", false},
		{"davit job create --nam a", false},
		{"davit job watch a b", false},
		{"davit serve --data d --max-in-progress many", false},
		{"go test ./cmd/davit -run TestTakes", true},
		{"go test ./cmd/davit -run TestGives", false},
		{"go test ./...", true},
		{"go run ./cmd/davits demo", false},
		{".ci/run", true},
		{"release/nothing", false},
	} {
		if err := takes(strings.Fields(tt.command), tests, true); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.command, err)
		}
	}
}
