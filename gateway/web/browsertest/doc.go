// Package browsertest owns the tests of the console in a real browser: one
// Chromium, driven through chromedp, against a whole server of internal/app with
// simulated devices. It has no code of its own outside the tests and must never be
// imported.
//
// The screenshots under docs/screenshots are written by the same tests
// (DAVIT_SCREENSHOTS=FOLDER). Without chromium the tests are skipped, unless
// DAVIT_TEST_FULL=1. Each test owns its tab; the browser is ended by TestMain.
package browsertest
