package main

import (
	"reflect"
	"strings"
	"testing"
	"time"
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

// What is measured of davit stands in the row of nginx as well, but for the ratio of both.
func TestImagesTable(t *testing.T) {
	one := func(wall time.Duration) []sample {
		return []sample{{cpu: time.Second, wall: wall, bytes: 100 << 20, chunks: 1, p50: 1, p99: 1, all50: wall / 4, all99: wall / 2, peak: 30 << 20}}
	}
	got := imagesTable([]contestant{{name: "nginx"}, {name: "davit, chunks of 16 KiB"}}, [][]sample{one(400 * time.Millisecond), one(600 * time.Millisecond)})
	want := [][]string{
		{"nginx", "400 (400-400)", "", "100 / 200", "10.0 (10.0-10.0)", "250 (250-250)", "30.0"},
		{"davit, chunks of 16 KiB", "600 (600-600)", "**1.50** (1.50-1.50), wanted 1.2: not reached", "150 / 300", "10.0 (10.0-10.0)", "167 (167-167)", "30.0"},
	}
	if !reflect.DeepEqual(got.rows, want) || len(got.head) != len(want[0]) {
		t.Errorf("%q\n%q, want\n%q", got.head, got.rows, want)
	}
}
