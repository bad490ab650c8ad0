# Lists what there is
default:
    @just --list

# Builds the binary
build:
    cargo build --workspace

# Runs every test; installs what they need
test *ARGS:
    scripts/test.sh {{ARGS}}

# Writes a sample project, builds it, runs it and explains it
demo *ARGS:
    cargo run -- demo {{ARGS}}

# Format, lints and dependencies
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test -q -p dbuild-integration-tests --test it house::

# Times dbuild against buildah (where it is installed) on the same work; needs root
bench *ARGS:
    cargo build --release
    scripts/bench.py {{ARGS}}

# Times the inner loops alone (Criterion): parse, lower, key, hash, walk, tar, gzip, unpack
bench-inner *ARGS:
    cargo bench -p dbuild-integration-tests --bench inner_loops -- {{ARGS}}

# Formats everything
fmt:
    cargo fmt --all

# Makes the base images of the tutorials and fills the local registry's storage with them
bases:
    cargo build --workspace
    scripts/bases.sh all

# Builds every case with dbuild and a reference builder, and compares
conformance *ARGS:
    scripts/conformance.py {{ARGS}}
