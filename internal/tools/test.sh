#!/usr/bin/env bash
# Runs the tests of the packages that it is given, with the race detector. At the end it
# lists what was skipped, and why.
#
# A test that fails is run once more, and what then passes is listed: on a busy machine one
# failure among thousands of tests must not hide what the others say. More than six are
# not repeated; nor is anything if there was a data race or a panic, or if a package
# doesn't build or its tests did not run to their end.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
export PACKAGES="$*"

status=0
events=${GOTESTSUM_JSONFILE:-$dir/events}
# gotestsum adds to the command what it runs again: -test.run=… and the package.
go run gotest.tools/gotestsum@v1.13.0 --format pkgname --format-hide-empty-pkg \
	--rerun-fails=1 --rerun-fails-max-failures=6 --rerun-fails-run-root-test \
	--rerun-fails-abort-on-data-race --rerun-fails-report "$dir/repeated" --jsonfile "$events" --raw-command -- \
	bash -fc 'exec go test -race -p 4 -json -timeout 15m ${@:-$PACKAGES}' go-test |
	awk -f internal/tools/skips.awk | tee "$dir/output" || status=$?

# Of each test that failed there is a line "PACKAGE.TEST: 2 runs, 1 failures".
if grep -qs ': 2 runs, 1 failures$' "$dir/repeated"; then
	echo "Failed once, passed when repeated (the failure is above; it is a defect all the same):"
	sed -n 's/^\(.*\): 2 runs, 1 failures$/    \1/p' "$dir/repeated"
fi
# A test without an end, or a package that fails though no test does (goroutines are left
# over, say): the process ended early, or badly. That a test passes when it is repeated says
# nothing about the others. (gotestsum repeats such a package without any test.)
{
	grep -E '^=== FAIL: ([^ ]+  \(|.*\(unknown\)$)' "$dir/output" || true
	awk '/"Action":"fail"/ && match($0, /"Package":"[^"]*"/) {
		package = substr($0, RSTART + 11, RLENGTH - 12)
		if (/"Test":"/) tests[package] = 1; else failed[package] = 1
	}
	END { for (p in failed) if (!(p in tests)) print "=== FAIL: " p }' "$events"
} >"$dir/ended"
if [ -s "$dir/ended" ]; then
	echo "These ended badly, although no test of theirs failed (go test PACKAGE shows how):"
	sed 's/^=== FAIL: /    /' "$dir/ended"
	status=1
fi
exit "$status"
