#!/usr/bin/env bash
# Every test, on a machine that has Rust and Debian's packages. Arguments go to `cargo test`.
#
# The last line says how many passed and failed in all.
set -euo pipefail
cd "$(dirname "$0")/.."
# cc and the tests need the programs that administrators have.
export PATH=$PATH:/usr/sbin:/sbin

scripts/tools.sh
cargo build --workspace --bins --locked
scripts/bases.sh all
# What users install, as a quick build: tests install it and run it in empty images.
scripts/release.sh --profile dev > /dev/null

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
echo "the cases of fixtures/cases:"
scripts/conformance.py --expect || status=$?
cargo test --workspace --locked --no-fail-fast "$@" 2>&1 | tee "$log" || status=$?
echo "a minute of fuzzing:"
# The same inputs each time, so that a change fails for what it did. DBUILD_FUZZ_SEED=$RANDOM looks elsewhere.
export DBUILD_FUZZ_SEED=${DBUILD_FUZZ_SEED:-1795226896698590660} DBUILD_FUZZ_SECONDS=${DBUILD_FUZZ_SECONDS:-60}
cargo test -q --locked -p dbuild-frontend --test it survived -- --test-threads=3 || status=$?
awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
     END { printf "%d passed, %d failed, %d ignored\n", passed, failed, ignored }' "$log"
exit "$status"
