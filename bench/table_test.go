package main

import (
	"strings"
	"testing"
)

func TestFigures(t *testing.T) {
	for v, want := range map[float64]string{0.123: "0.12", 9.999: "10.00", 12.34: "12.3", 123.4: "123", 1234.5: "1,235", 1234567: "1,234,567", -1234: "-1,234"} {
		if got := figure(v); got != want {
			t.Errorf("%g: %s, want %s", v, got, want)
		}
	}
}

func TestTableInMarkdown(t *testing.T) {
	tab := &table{head: []string{"a", "b"}}
	tab.add("x", "1")
	var b strings.Builder
	tab.markdown(&b)
	if want := "| a | b |\n|---|---:|\n| x | 1 |\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	if got, want := ratioText(spread{0.5, 0.61, 0.7}, 0.6), "**0.61** (0.50-0.70), wanted 0.6: not reached"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDocumentKeepsWhatIsNotOurs(t *testing.T) {
	doc := "# Title\n\nmine\n"
	for _, step := range []struct{ name, text, want string }{
		{"one", "first", "# Title\n\nmine\n\n" + beginMark("one") + "\nfirst\n" + endMark("one") + "\n"},
		{"two", "\nsecond\n\n", "# Title\n\nmine\n\n" + beginMark("one") + "\nfirst\n" + endMark("one") + "\n\n" + beginMark("two") + "\nsecond\n" + endMark("two") + "\n"},
		{"one", "again", "# Title\n\nmine\n\n" + beginMark("one") + "\nagain\n" + endMark("one") + "\n\n" + beginMark("two") + "\nsecond\n" + endMark("two") + "\n"},
	} {
		got, err := replacePart([]byte(doc), step.name, step.text)
		if err != nil || string(got) != step.want {
			t.Fatalf("%s: %v\n%s\nwant\n%s", step.name, err, got, step.want)
		}
		doc = string(got)
	}
	if _, err := replacePart([]byte(beginMark("one")+"\ncut off\n"), "one", "x"); err == nil {
		t.Error("a part without its end was replaced")
	}
}
