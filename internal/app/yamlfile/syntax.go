package yamlfile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits that keep the parser's work in bounds. It calls itself for each level
// and takes seconds and gigabytes for a few thousand of them.
const (
	maxTokens  = 8192 // comments apart: some three times what the ports of a bridge need
	maxNesting = 8    // of [ and {
)

// MaxProblems is how many problems are told.
const MaxProblems = 20

// Reader reads one file and gathers what is wrong with it.
type Reader struct {
	// What is what the file should be, with an article, and Example a clause that
	// says where people find how it looks.
	What, Example string
	// Elsewhere says where a name belongs that the file cannot have, as a predicate
	// that goes on after the name, or "" if it is known nowhere; nil for no such names.
	Elsewhere func(name string) string

	problems []Problem
}

// Wrong notes a problem at a token, which may be nil.
func (r *Reader) Wrong(at *token.Token, field, format string, args ...any) {
	p := Problem{Field: field, Text: fmt.Sprintf(format, args...)}
	if at != nil && at.Position != nil {
		p.Line, p.Column = at.Position.Line, at.Position.Column
	}
	r.problems = append(r.problems, p)
}

// sorted are the problems in the order of the file, as many as are told.
func (r *Reader) sorted() []Problem {
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if more := len(r.problems) - MaxProblems; more > 0 {
		last := r.problems[MaxProblems-1]
		last.Field, last.Text = "", fmt.Sprintf("there are %d more mistakes from here on", more+1)
		return append(r.problems[:MaxProblems-1:MaxProblems-1], last)
	}
	return r.problems
}

// Err is what is wrong with the file called name, an *Error, or nil.
func (r *Reader) Err(name string) error {
	if len(r.problems) == 0 {
		return nil
	}
	return &Error{Name: name, Problems: r.sorted()}
}

// Root returns the one document of the file, or notes why there is none.
func (r *Reader) Root(content []byte) ast.Node {
	text, ok := r.text(content)
	if !ok {
		return nil
	}
	tokens := lexer.Tokenize(text)
	if !r.plain(tokens) {
		return nil
	}
	file, err := parse(tokens)
	if err != nil {
		var e yaml.Error
		if errors.As(err, &e) {
			r.Wrong(e.GetToken(), "", "this is not YAML: %s", explained(e.GetMessage()))
		} else {
			r.Wrong(nil, "", "this is not YAML: %v", err)
		}
		return nil
	}
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			return doc.Body
		}
	}
	r.Wrong(nil, "", "the file is empty; %s", r.Example)
	return nil
}

// parse keeps a mistake of the library from ending the program: a file that the
// parser stumbles over is a bad file, and what runs goes on.
func parse(tokens token.Tokens) (f *ast.File, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the parser gives up: %v", v)
		}
	}()
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // which the reader finds, with everything else
}

// explained is a message of the parser in words that can be printed, with what to do.
func explained(message string) string {
	if strings.Contains(message, "\t") {
		return "a tab cannot stand here; indent with spaces"
	}
	return message
}

// text checks the size and the characters of the file.
func (r *Reader) text(content []byte) (string, bool) {
	if len(content) > MaxSize {
		r.Wrong(nil, "", "the file is longer than %d KiB; is it %s?", MaxSize>>10, r.What)
		return "", false
	}
	if b := string(content[:min(2, len(content))]); b == "\xff\xfe" || b == "\xfe\xff" {
		r.problems = append(r.problems, Problem{Line: 1, Column: 1, Text: "this is UTF-16, as some editors and PowerShell write it; save the file as UTF-8"})
		return "", false
	}
	text := strings.ReplaceAll(strings.TrimPrefix(string(content), "\ufeff"), "\r\n", "\n") // the lexer counts the lines of the former wrongly
	for line, s := range strings.Split(text, "\n") {
		for at, c := range s {
			bad := ""
			switch {
			case c == utf8.RuneError && !strings.HasPrefix(s[at:], string(utf8.RuneError)):
				bad = "is not UTF-8"
			case c == '\t':
			case c < ' ' || c >= 0x7f && c < 0xa0 || c == '\u2028' || c == '\u2029' || c == '\ufeff':
				bad = "is a control character"
			}
			if bad != "" {
				r.problems = append(r.problems, Problem{
					Line: line + 1, Column: utf8.RuneCountInString(s[:at]) + 1, Text: "what stands here " + bad + "; is this a text file?",
				})
				return "", false
			}
		}
	}
	return text, true
}

// plain refuses what the parser need not see.
func (r *Reader) plain(tokens token.Tokens) bool {
	nesting, count := 0, 0
	var before *token.Token // the last one but for comments
	entry := 0              // line of the last -
	for _, t := range tokens {
		if t.Type == token.CommentType {
			continue
		}
		text := ""
		switch count++; t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			text = "anchors, aliases and merges (&, *, <<) are not taken here; write the value out, in quotes if it begins so"
		case token.TagType:
			text = "tags (!) are not taken here; write the value alone, in quotes if it begins with !"
		case token.DirectiveType:
			text = "directives (%) are not taken here; leave the line out"
		case token.MappingKeyType:
			text = "a key cannot begin with ?; write key: value"
		case token.DocumentHeaderType:
			if before != nil {
				text = "a second document begins here; a file has one"
			}
		case token.SequenceEntryType:
			if entry == t.Position.Line {
				text = "a list in a list is not taken here; write one - only"
			}
			entry = t.Position.Line
		case token.SequenceStartType, token.MappingStartType:
			if nesting++; nesting > maxNesting {
				text = "there are too many [ or { within one another"
			}
		case token.SequenceEndType, token.MappingEndType:
			nesting--
		}
		if text == "" && before != nil && before.Type == token.DocumentEndType {
			text = "the document has ended before this; a file has one"
		}
		if text == "" && count > maxTokens {
			text = "the file has more in it than a configuration can need"
		}
		if text != "" {
			r.Wrong(t, "", "%s", text)
			return false
		}
		before = t
	}
	return true
}
