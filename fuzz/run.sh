#!/usr/bin/env bash
# Fuzzes one target for so many seconds, from the seeds in tests/corpus: run.sh frames|scanner|api [SECONDS]
# Needs a nightly toolchain and a C++ compiler; the flags are those of `cargo fuzz run --sanitizer none`, which does the
# same (no part of linemint is unsafe code). Findings are left in fuzz/artifacts; exit status 0 only if there are none.
set -euo pipefail
cd "$(dirname "$0")"
target=$1 seconds=${2:-600}
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
cargo +nightly build --release --target "$host" --bin "$target"
mkdir -p "corpus/$target" artifacts
exec "${CARGO_TARGET_DIR:-target}/$host/release/$target" -max_total_time="$seconds" -max_len=40000 -timeout=70 \
  -artifact_prefix="artifacts/$target-" -print_final_stats=1 "corpus/$target" "../tests/corpus/$target"
