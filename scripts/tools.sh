#!/bin/sh
# Installs from Debian what the tests need, where it is missing. Quiet when there is nothing to do.
set -eu
PATH=$PATH:/usr/sbin:/sbin

# command=package
needed="
    docker-registry=docker-registry busybox=busybox-static skopeo=skopeo umoci=umoci runc=runc
    newuidmap=uidmap mmdebstrap=mmdebstrap setpriv=util-linux flock=util-linux curl=curl git=git
    cc=gcc make=make python3=python3 setcap=libcap2-bin xz=xz-utils bzip2=bzip2 zstd=zstd chromium=chromium chromedriver=chromium-driver
"
packages=
for pair in $needed; do
    command -v "${pair%%=*}" > /dev/null || packages="$packages ${pair#*=}"
done
# The images are made of a busybox that needs no library.
if command -v busybox > /dev/null && ! busybox --list > /dev/null 2>&1; then packages="$packages busybox-static"; fi
[ -n "$packages" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "The tests need:$packages" >&2
    echo "Install them with:  sudo apt-get install --no-install-recommends$packages" >&2
    exit 1
fi
echo "installing:$packages"

# Some of these are services; only their programs are wanted.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT INT TERM
fi
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
{ apt-get -qq update && apt-get -qq install -y --no-install-recommends $packages; } > "$log" 2>&1 || {
    cat "$log" >&2
    exit 1
}
rm -f "$log"
