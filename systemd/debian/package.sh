#!/usr/bin/env bash
# Makes the Debian package and the tarball: systemd/debian/package.sh [DIR]   (default: target/package/out)
# Needs cargo-deb (`cargo install cargo-deb --locked`) and Python 3. Two runs on one machine give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-target/package/out}
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$out"

# The time that goes into the archives is that of the commit; no path of this machine goes into the binary.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=/linemint --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$PWD=/linemint -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo"
cargo build --release --locked --bin linemint
linemint=$target/release/linemint

package=target/package
rm -rf "$package/man"
"$linemint" man "$package/man"
gzip -9 -n "$package"/man/*
"$linemint" completions bash > "$package/linemint.bash"
"$linemint" completions zsh > "$package/_linemint"
"$linemint" completions fish > "$package/linemint.fish"
python3 systemd/debian/sbom.py "$package"

cargo deb --no-build --locked --output "$out/"
version=$("$linemint" --version | cut -d' ' -f2)
name=linemint-$version-$(uname -m)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/$name/man" "$stage/$name/completions"
cp "$linemint" README.md CHANGELOG.md "$package/sbom.cdx.json" "$package/licences.txt" "$stage/$name/"
cp -r config docs systemd "$stage/$name/"
cp "$package"/man/* "$stage/$name/man/"
cp "$package/linemint.bash" "$package/_linemint" "$package/linemint.fish" "$stage/$name/completions/"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$stage" -cf - "$name" \
  | gzip -9 -n > "$out/$name.tar.gz"
sha256sum "$out"/*
