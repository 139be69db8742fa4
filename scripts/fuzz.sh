#!/bin/sh
# Runs every fuzzer for so many seconds each, two at a time; ends with 1 if one found something. What a fuzzer learns stays
# in src/dataplane/fuzz/corpus, what breaks something in src/dataplane/fuzz/artifacts.
set -eu
seconds=${1:-600}
cd "$(dirname "$0")/../src/dataplane"
# No address sanitizer: the parsers have no unsafe code, and it would want a nightly compiler. Overflow checks and debug
# assertions are on.
cargo fuzz build --sanitizer none
one() {
    mkdir -p "fuzz/corpus/$1"
    log="fuzz/$1.log"
    if cargo fuzz run --sanitizer none "$1" "fuzz/corpus/$1" "fuzz/seeds/$1" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1; then
        echo "$1: clean, $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s"
    else
        tail -n 40 "$log"
        echo "$1: FOUND SOMETHING, see src/dataplane/$log"
        return 1
    fi
}
failed=0
waiting=
for target in $(cargo fuzz list); do
    one "$target" &
    if [ -n "$waiting" ]; then
        wait "$waiting" || failed=1
    fi
    waiting=$!
done
wait "$waiting" || failed=1
exit "$failed"
