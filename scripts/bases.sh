#!/bin/sh
# Fills the storage of the local registry with the base images that the tests name, once.
#
#     bases.sh small|all
#
# small   `busybox`, made by umoci of this machine's busybox: what most tests build on
# all     small, and the stand-ins of fixtures/bases, made by dbuild of Debian
#
# Everything lies in target/fixtures (FIXTURES_DIR), is made again when what it is made of changes, and is
# safe to ask for from several processes at once. DBUILD is the program, by default what cargo built.
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
what=${1:-all}
out=${FIXTURES_DIR:-$root/target/fixtures}
dbuild=${DBUILD:-${CARGO_TARGET_DIR:-$root/target}/debug/dbuild}
mkdir -p "$out/registry"
exec 9> "$out/lock"
flock 9

fingerprint() { # FILE…, below the checkout or absolute: of names and contents, wherever the checkout lies
    (cd "$root" && find "$@" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
}
is_done() { [ "$(cat "$out/$1.made" 2>/dev/null || true)" = "$2" ]; }

registry=
temporary=$(mktemp -d "$out/making.XXXXXX")
stop() {
    [ -z "$registry" ] || kill "$registry" 2>/dev/null || true
    rm -rf "$temporary"
}
trap stop EXIT
trap 'exit 130' INT TERM

start_registry() { # sets $registry and $port
    [ -z "$registry" ] || return 0
    cat > "$temporary/registry.yml" <<END
version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $out/registry}, delete: {enabled: true}}
http: {addr: "127.0.0.1:0"}
END
    setpriv --pdeathsig KILL docker-registry serve "$temporary/registry.yml" > "$temporary/registry.log" 2>&1 9>&- &
    registry=$!
    port=
    while [ -z "$port" ]; do
        kill -0 "$registry" 2>/dev/null || { cat "$temporary/registry.log" >&2; exit 1; }
        port=$(sed -n 's/.*listening on 127\.0\.0\.1:\([0-9]*\).*/\1/p' "$temporary/registry.log")
        [ -n "$port" ] || sleep 0.05
    done
}

make_busybox() {
    tree=$temporary/busybox
    mkdir -p "$tree/bin" "$tree/dev" "$tree/etc" "$tree/home/app" "$tree/proc" "$tree/root" "$tree/sbin" "$tree/sys" \
        "$tree/tmp" "$tree/usr/bin" "$tree/usr/sbin" "$tree/var/tmp"
    chmod 1777 "$tree/tmp" "$tree/var/tmp"
    chmod 0700 "$tree/root"
    cp "$(command -v busybox)" "$tree/bin/busybox"
    for applet in $(busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
    done
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'daemon:x:1:1:daemon:/usr/sbin:/bin/false' \
        'app:x:1000:1000:app:/home/app:/bin/sh' 'nobody:x:65534:65534:nobody:/:/bin/false' > "$tree/etc/passwd"
    printf '%s\n' 'root:x:0:' 'daemon:x:1:' 'audio:x:29:app' 'app:x:1000:' 'nogroup:x:65534:' > "$tree/etc/group"
    find "$tree" -exec touch -h -d @1700000000 {} +

    umoci init --layout "$temporary/layout"
    umoci new --image "$temporary/layout:busybox"
    umoci insert --rootless --image "$temporary/layout:busybox" "$tree" /
    umoci config --image "$temporary/layout:busybox" --config.cmd sh \
        --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    start_registry
    skopeo --insecure-policy copy -q --dest-tls-verify=false "oci:$temporary/layout:busybox" \
        "docker://127.0.0.1:$port/library/busybox:latest"
}

make_stand_ins() {
    [ -x "$dbuild" ] || { echo "$dbuild is not there: run \`cargo build\` first" >&2; exit 1; }
    context=$out/bases
    sources=$(fingerprint fixtures/bases/host-apt-sources.sh fixtures/bases/make-context.sh fixtures/bases/musl-python.sh \
        fixtures/bases/musl fixtures/bases/python \
        /etc/apt/sources.list.d /etc/ssl/certs/ca-certificates.crt)
    if ! is_done context "$sources"; then
        echo "making a Debian root file system…" >&2
        rm -rf "$context"
        "$root/fixtures/bases/make-context.sh" "$context"
        echo "$sources" > "$out/context.made"
    fi
    cp "$root/fixtures/bases/Dockerfile" "$context/Dockerfile"

    proxies=
    for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
        eval "value=\${$name:-}"
        [ -z "$value" ] || proxies="$proxies --build-arg $name"
    done
    echo "building the base images…" >&2
    # shellcheck disable=SC2086
    build() { "$dbuild" --store "$out/store" build --progress plain $proxies "$@" "$context" 9>&-; }
    build --target all > "$out/bases.log" 2>&1 || { tail -n 40 "$out/bases.log" >&2; exit 1; }
    start_registry
    for stage in ubuntu python-3.7 python-3.7-slim python-3.9 python-3.9-slim-buster python-3.11-slim \
        python-3.11-alpine node-18 node-18-slim alpine; do
        name=$(echo "$stage" | sed 's/-/:/')
        build --target "$stage" -t "127.0.0.1:$port/library/$name" --push >> "$out/bases.log" 2>&1 ||
            { tail -n 40 "$out/bases.log" >&2; exit 1; }
    done
}

print=$(fingerprint "$(command -v busybox)" scripts/bases.sh)
if ! is_done small "$print"; then
    make_busybox > "$out/small.log" 2>&1 || { cat "$out/small.log" >&2; exit 1; }
    echo "$print" > "$out/small.made"
fi
[ "$what" != small ] || exit 0

print=$(fingerprint fixtures/bases /etc/apt/sources.list.d /etc/ssl/certs/ca-certificates.crt)
if ! is_done all "$print"; then
    make_stand_ins
    echo "$print" > "$out/all.made"
fi
