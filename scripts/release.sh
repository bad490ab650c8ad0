#!/usr/bin/env bash
# Makes what users install: a static program, an archive and a Debian package with it, its manual pages
# and completions, a list of what it is made of, and checksums of all.
#
#     scripts/release.sh [--profile dist|dev] [--out DIR]
#
# For the machine's own processor. The same commit gives the same bytes on the same machine: times are
# those of the commit. `--profile dev` is what the tests use, since it compiles in a third of the time.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=dist out=target/packages
while [ $# -gt 0 ]; do
    case $1 in
        --profile) profile=$2; shift 2 ;;
        --out) out=$2; shift 2 ;;
        *) echo "usage: scripts/release.sh [--profile dist|dev] [--out DIR]" >&2; exit 2 ;;
    esac
done
case $(uname -m) in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) echo "no release is made for $(uname -m)" >&2; exit 1 ;;
esac
triple=$(uname -m)-unknown-linux-gnu
folder=$profile
[ "$profile" != dev ] || folder=debug
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

# glibc links statically as it is: the parts that resolve names are inside since 2.34. With --target the
# flag is not for build scripts, which could not be linked so.
RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --locked --profile "$profile" --target "$triple" -p dbuild
program=${CARGO_TARGET_DIR:-target}/$triple/$folder/dbuild

rm -rf "$out"
mkdir -p "$out"
stage=$(mktemp -d "$out/stage.XXXXXX")
trap 'rm -rf "$stage"' EXIT
root=$stage/root
install -D -m 755 "$program" "$root/usr/bin/dbuild"
strip "$root/usr/bin/dbuild"
if ldd "$root/usr/bin/dbuild" > "$stage/ldd" 2>&1 && ! grep -q "statically linked" "$stage/ldd"; then
    echo "the program is not static:" >&2
    cat "$stage/ldd" >&2
    exit 1
fi

documents=$root/usr/share/doc/dbuild
install -D -m 644 -t "$documents" README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE
"$root/usr/bin/dbuild" man "$root/usr/share/man/man1"
gzip -9n "$root"/usr/share/man/man1/*.1
complete() { # SHELL FILE
    mkdir -p "$(dirname "$root/usr/share/$2")"
    "$root/usr/bin/dbuild" completion "$1" > "$root/usr/share/$2"
}
complete bash bash-completion/completions/dbuild
complete zsh zsh/vendor-completions/_dbuild
complete fish fish/vendor_completions.d/dbuild.fish

scripts/sbom.py "$version" "$triple" > "$out/dbuild-$version.cdx.json"
cp "$out/dbuild-$version.cdx.json" "$documents/"

# Directories as an archive of the distribution has them, and the times of the commit.
chmod -R u=rwX,go=rX "$root"
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
archive=dbuild-$version-$triple
tar --sort=name --owner=0 --group=0 --numeric-owner --format=ustar -C "$root" \
    --transform "s,^\./usr,$archive," -cf - ./usr | gzip -9n > "$out/$archive.tar.gz"
install -m 755 -p "$root/usr/bin/dbuild" "$out/dbuild-$triple"

mkdir -p "$root/DEBIAN"
cat > "$root/DEBIAN/control" <<END
Package: dbuild
Version: $version
Architecture: $architecture
Maintainer: The dbuild developers <dbuild@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f 1)
Section: devel
Priority: optional
Recommends: ca-certificates, uidmap
Suggests: git, qemu-user-static
Description: builds container images from Dockerfiles
 One program, no daemon, no root. It runs independent stages side by side,
 remembers every step by what it contains, ships only the final stage, and
 tells what it did and why.
END
touch -d "@$SOURCE_DATE_EPOCH" "$root/DEBIAN" "$root/DEBIAN/control"
dpkg-deb --root-owner-group -Zxz --build "$root" "$out/dbuild_${version}_$architecture.deb" > /dev/null

rm -rf "$stage"
sums=$(cd "$out" && sha256sum -- *)
printf '%s\n' "$sums" > "$out/SHA256SUMS"
ls -l "$out"
