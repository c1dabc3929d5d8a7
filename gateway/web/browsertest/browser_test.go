package browsertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"
)

const (
	// patience bounds every wait for the browser, on a machine that may have other work.
	patience = time.Minute
	// glance is the time between two looks at a page.
	glance = 40 * time.Millisecond
)

// chromium is the one browser of all tests; TestMain ends it.
type chromium struct {
	start   sync.Once
	ctx     context.Context
	end     func()
	missing string // why there is none
}

var shared chromium // one browser for all tests, ended by TestMain

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.end != nil {
		shared.end()
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// open starts the browser with a profile of its own.
func (c *chromium) open() {
	path, err := exec.LookPath("chromium")
	if err != nil {
		c.missing = "chromium is not installed (Debian package chromium)"
		return
	}
	profile, err := os.MkdirTemp("", "davit-browser-")
	if err != nil {
		c.missing = err.Error()
		return
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("disable-extensions", true), chromedp.Flag("disable-default-apps", true), chromedp.Flag("force-color-profile", "srgb"),
		chromedp.Flag("disable-features", "Translate,OptimizationHints,MediaRouter"), chromedp.Flag("mute-audio", true),
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, endBrowser := chromedp.NewContext(allocator)
	c.ctx = ctx
	c.end = func() {
		endBrowser()
		cancel()
		if err := os.RemoveAll(profile); err != nil {
			fmt.Fprintln(os.Stderr, "browser's profile:", err)
		}
	}
	if err := chromedp.Do(ctx); err != nil {
		c.missing = "chromium does not start: " + err.Error()
	}
}

// needBrowser skips the test if there is no browser.
func needBrowser(t *testing.T) context.Context {
	t.Helper()
	shared.start.Do(shared.open)
	if shared.missing == "" {
		return shared.ctx
	}
	if os.Getenv("DAVIT_TEST_FULL") == "1" {
		t.Fatal(shared.missing)
	}
	t.Skip(shared.missing)
	return nil
}

// onlyInFull skips what is not for every day, because the whole of go test has a
// limit of three minutes.
func onlyInFull(t *testing.T) {
	t.Helper()
	if os.Getenv("DAVIT_TEST_FULL") != "1" {
		t.Skip("runs under DAVIT_TEST_FULL=1")
	}
}

// tab is one tab with cookies of its own. What goes wrong in its pages fails the
// test at its end.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex
	problems []string
	expected int // answers of the server that are errors on purpose
}

func newTab(t *testing.T, base string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(needBrowser(t), chromedp.WithNewBrowserContext())
	b := &tab{t: t, ctx: ctx, base: base}
	// This makes the tab, which has to live longer than one action.
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			t.Errorf("browser: %s", p)
		}
	})
	b.run(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, runtime.Enable, cdp.Empty{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, target, log.Enable, cdp.Empty{})
		return err
	}), chromedp.EmulateViewport(1280, 900))
	return b
}

// listen collects errors: exceptions, console.error, and what the browser itself
// complains of, violations of the content security policy among it.
func (b *tab) listen(ev any) {
	problem := ""
	switch e := ev.(type) {
	case *runtime.EventExceptionThrown:
		problem = "exception: " + e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			problem += " " + x.Description
		}
	case *runtime.EventConsoleAPICalled:
		switch e.Type {
		case runtime.ConsoleAPICalledTypeError, runtime.ConsoleAPICalledTypeWarning, runtime.ConsoleAPICalledTypeAssert:
			problem = "console: "
			for _, a := range e.Args {
				problem += string(a.Value) + a.Description + " "
			}
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			problem = fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL)
			if e.Entry.Source == log.EntrySourceNetwork && b.expects() {
				problem = ""
			}
		}
	}
	if problem != "" {
		b.mu.Lock()
		b.problems = append(b.problems, problem)
		b.mu.Unlock()
	}
}

// expects uses up one expected error of the server.
func (b *tab) expects() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.expected == 0 {
		return false
	}
	b.expected--
	return true
}

// expectError says that one answer of the server is to be an error.
func (b *tab) expectError() {
	b.mu.Lock()
	b.expected++
	b.mu.Unlock()
}

// run carries out actions and fails the test if they cannot be.
func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%v; %s", err, b.state())
	}
}

// clickOn carries out a click on what it finds. A fragment that the page fetches anew may take
// that away between the two; then it is found again, as a person would.
func (b *tab) clickOn(click chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		err := chromedp.Do(ctx, click)
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "Could not find node with given id") {
			b.t.Fatalf("%v; %s", err, b.state())
		}
	}
}

// state is where the tab is, for the message of a failure.
func (b *tab) state() string {
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + " says:\n" + (document.querySelector("main") ?? document.body).innerText`))
	if err != nil {
		return "and its page cannot be read: " + err.Error()
	}
	return fmt.Sprintf("%.3000s", text)
}

// goTo opens a page of the server.
func (b *tab) goTo(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.base + path))
}

// eval returns what an expression is on the page.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v; %s", expression, err, b.state())
	}
	return v
}

// until polls until an expression is true; pages may change meanwhile.
func (b *tab) until(what, expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(glance) {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.readyState === "complete" && Boolean(`+expression+`)`))
		cancel()
		if ok && err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("not in time: %s (%v); %s", what, err, b.state())
		}
	}
}

// at waits for a page.
func (b *tab) at(path string) {
	b.t.Helper()
	b.until("the page "+path, fmt.Sprintf("location.pathname === %q", path))
}

// sees waits for words on the page.
func (b *tab) sees(words string) {
	b.t.Helper()
	b.until(fmt.Sprintf("the words %q", words), fmt.Sprintf("document.body.innerText.includes(%q)", words))
}

// has says whether something matches a selector.
func (b *tab) has(selector string) bool {
	b.t.Helper()
	return eval[bool](b, fmt.Sprintf("document.querySelector(%q) !== null", selector))
}

// click clicks what matches, when it is there.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.clickOn(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// press clicks the button or link with these words.
func (b *tab) press(words string) {
	b.t.Helper()
	b.clickOn(chromedp.Click(fmt.Sprintf(`//main//*[(self::a or self::button) and contains(normalize-space(.), %q)] | //dialog[@open]//button[contains(normalize-space(.), %q)]`, words, words),
		chromedp.NodeVisible))
}

// fill types into an input in place of what it holds.
func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.clickOn(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
	eval[bool](b, `(document.activeElement.select(), true)`)
	b.run(chromedp.KeyEvent("\b"), chromedp.KeyEvent(text))
}

// choose chooses an option of a select.
func (b *tab) choose(selector, value string) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf(`(() => { const s = document.querySelector(%q); s.value = %q; s.dispatchEvent(new Event("change", {bubbles: true})); return true; })()`, selector, value))
}

// size sets the size of the window.
func (b *tab) size(width, height int64) {
	b.t.Helper()
	b.run(chromedp.EmulateViewport(width, height))
}

// scheme sets what theme the system has.
func (b *tab) scheme(name string) {
	b.t.Helper()
	b.run(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		return err
	}))
}

// shot is a picture of the window.
func (b *tab) shot() []byte {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatalf("picture: %v", err)
	}
	return png
}
