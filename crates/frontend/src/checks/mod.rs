//! The checks of `docker build --check`, under their names.
//!
//! Those that need only the AST are in [`statics`]; the others are reported while a stage is
//! lowered, by way of [`Lint`].

mod lint;
pub(crate) mod rules;
pub(crate) mod statics;

pub(crate) use lint::Lint;

use crate::ast::Dockerfile;
use crate::diagnostics::Diagnostic;
use crate::request::BuildArgs;

/// The checks that need no more than the file: what an editor shows while somebody types. Those
/// that need to know the build's arguments and base images are among the warnings of
/// [`crate::lower`], with these.
pub fn check(ast: &Dockerfile, args: &BuildArgs) -> Vec<Diagnostic> {
    match Lint::of(ast, args) {
        Ok(mut lint) => {
            statics::run(ast, &mut lint);
            lint.finish()
        }
        Err(error) => vec![error],
    }
}
