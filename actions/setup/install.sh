#!/usr/bin/env bash
# Downloads a release of blob for this machine, checks it, and puts the command on the path of the following steps.
set -euo pipefail

version="${BLOB_VERSION:?set BLOB_VERSION to a release, such as v0.1.0}"
repository="${BLOB_REPOSITORY:-https://github.com/meigma/blob-rs}"
directory="${BLOB_INSTALL:-${RUNNER_TEMP:-$HOME/.local}/bin}"

case "$version" in
v[0-9]*.[0-9]*.[0-9]*) ;;
*)
    echo "BLOB_VERSION is '$version', not a release such as v0.1.0" >&2
    exit 2
    ;;
esac
case "$(uname -s)-$(uname -m)" in
Linux-x86_64) target=x86_64-unknown-linux-gnu ;;
Linux-aarch64) target=aarch64-unknown-linux-gnu ;;
*)
    echo "there is no release of blob for $(uname -s) on $(uname -m)" >&2
    exit 2
    ;;
esac

name="blob-$version-$target"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
fetch() {
    curl --fail --location --proto '=https' --proto-redir '=https' --silent --show-error --retry 3 \
        --output "$scratch/$1" "$repository/releases/download/$version/$1"
}

fetch "$name.tar.gz"
expected="${BLOB_SHA256:-}"
if [ -z "$expected" ]; then
    fetch SHA256SUMS
    expected="$(awk -v file="$name.tar.gz" '$2 == file { print $1 }' "$scratch/SHA256SUMS")"
fi
got="$(sha256sum "$scratch/$name.tar.gz" | cut -d' ' -f1)"
if [ -z "$expected" ] || [ "$got" != "$expected" ]; then
    echo "$name.tar.gz has the SHA-256 $got, expected '$expected'; nothing was installed" >&2
    exit 1
fi

tar -xzf "$scratch/$name.tar.gz" -C "$scratch"
install -D -m 755 "$scratch/$name/blob" "$directory/blob"
if [ -n "${GITHUB_PATH:-}" ]; then
    echo "$directory" >>"$GITHUB_PATH"
fi
"$directory/blob" --version
