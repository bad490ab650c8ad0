//! Placeholder until the tests are in.
fn main() {
    dbuild_sandbox::dispatch_helper();
}
