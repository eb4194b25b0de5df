#!/usr/bin/env bash
# Keeps of what run.sh has found what adds coverage to the seeds: keep.sh frames|scanner|api
# Small inputs only, so many that tests/corpus/TARGET has 200 files at most: `cargo test` reads them all.
set -euo pipefail
cd "$(dirname "$0")"
target=$1 most=200 size=4096
seeds=../tests/corpus/$target
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
binary=${CARGO_TARGET_DIR:-target}/$host/release/$target
[[ -x $binary && -d corpus/$target ]] || { echo "run fuzz/run.sh $target first" >&2; exit 2; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/small" "$scratch/merged"
find "corpus/$target" -type f -size "-$((size + 1))c" -exec cp -t "$scratch/small" {} +
cp "$seeds"/* "$scratch/merged/"
"$binary" -merge=1 -max_len=$size -timeout=70 "$scratch/merged" "$scratch/small" 2>&1 | tail -1
# The smallest of those that are new, named by their content as libFuzzer does.
room=$((most - $(find "$seeds" -type f | wc -l)))
((room > 0)) || { echo "$target: $most files are there already"; exit 0; }
find "$scratch/merged" -type f -printf '%s %p\n' | sort -n | while read -r _ file; do
  [[ -e $seeds/${file##*/} ]] || echo "$file"
done > "$scratch/new"
head -n "$room" "$scratch/new" | xargs -r cp -t "$seeds"
echo "$target: $(find "$seeds" -type f | wc -l) files"
