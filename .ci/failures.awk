# Of what `go test -v` has printed of many packages, all that the failed tests printed, and of a package that failed
# without a failed test (a goroutine left behind, a panic) its end.
/^=== (RUN|CONT|NAME|PAUSE) / { test = $3; sub(/\/.*/, "", test) }
/^--- FAIL: / { failed[$3] }
{ printed[test] = printed[test] $0 "\n"; recent[++lines % 100] = $0 }
/^(ok  |FAIL|\?   )\t/ {
  if ($1 == "FAIL") {
    print "== " $2
    for (name in failed) printf "%s", printed[name]
    if (length(failed) == 0) for (n = lines < 100 ? 1 : lines - 99; n <= lines; n++) print recent[n % 100]
  }
  delete failed; delete printed; delete recent
  test = ""; lines = 0
}
