package main

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var (
	linkTo     = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	codeSpan   = regexp.MustCompile("`[^`]*`")
	headingRow = regexp.MustCompile(`^#{1,6} +(.*)$`)
)

// prose is a page without its fenced blocks and comments.
func prose(text string) (lines []string) {
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			inside = !inside
		} else if !inside && !comment.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// anchorsOf are the fragments that a page's headings have where Markdown is shown: lower case, letters, digits and
// hyphens, a number behind one that repeats.
func anchorsOf(text string) (anchors []string) {
	seen := map[string]int{}
	for _, line := range prose(text) {
		m := headingRow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		title := linkTo.ReplaceAllString(m[1], "]")
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ' || r == '-':
				return '-'
			case r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, title)
		if n := seen[slug]; n > 0 {
			seen[slug]++
			slug += "-" + string(rune('0'+n))
		} else {
			seen[slug] = 1
		}
		anchors = append(anchors, slug)
	}
	return anchors
}

// linksOf are the relative links of a page.
func linksOf(text string) (links []string) {
	for _, line := range prose(text) {
		for _, m := range linkTo.FindAllStringSubmatch(codeSpan.ReplaceAllString(line, ""), -1) {
			if u, err := url.Parse(m[1]); err != nil || u.Scheme == "" {
				links = append(links, m[1])
			}
		}
	}
	return links
}

// TestDocumentLinks: every relative link of the documents leads to a file, and to a heading where it names one.
func TestDocumentLinks(t *testing.T) {
	for _, page := range pagesOf(t) {
		text := readPage(t, page)
		for _, link := range linksOf(text) {
			file, fragment, _ := strings.Cut(link, "#")
			target := path.Join(path.Dir(page), file)
			if file == "" {
				target = page
			}
			if _, err := os.Stat(filepath.Join(repository, target)); err != nil {
				t.Errorf("%s: %s leads nowhere", page, link)
				continue
			}
			if fragment != "" && strings.HasSuffix(target, ".md") && !slices.Contains(anchorsOf(readPage(t, target)), fragment) {
				t.Errorf("%s: %s has no heading #%s", page, target, fragment)
			}
		}
	}
}

// TestNoOrphanPages: the index of the documents leads to every one of them.
func TestNoOrphanPages(t *testing.T) {
	const index = "docs/README.md"
	links := linksOf(readPage(t, index))
	for _, page := range pagesOf(t) {
		name, ok := strings.CutPrefix(page, "docs/")
		if ok && page != index && !slices.Contains(links, name) {
			t.Errorf("%s does not lead to %s", index, name)
		}
	}
}

func TestAnchorsOf(t *testing.T) {
	text := "# A bridge's file\n\n```sh\n# no heading\n```\n## 1. The line\n## [Link](x.md) to `code`\n## 1. The line\n"
	want := []string{"a-bridges-file", "1-the-line", "link-to-code", "1-the-line-1"}
	if got := anchorsOf(text); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := linksOf("[a](b.md#c) `[no](x)` [d](https://example.com/) ![p](q.png)"); !slices.Equal(got, []string{"b.md#c", "q.png"}) {
		t.Errorf("links %q", got)
	}
}
