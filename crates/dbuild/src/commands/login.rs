//! `dbuild login` and `dbuild logout`.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use console::Term;
use dbuild_registry::{LoginError, forget_login, keep_login, try_login};

use super::print;
use crate::cli::{Global, LoginArgs};
use crate::config::Config;
use crate::error::Error;

/// `dbuild login`.
pub(crate) fn log_in(global: &Global, args: &LoginArgs) -> Result<(), Error> {
    let config = Config::read(global)?;
    let host = host(args.server.as_deref());
    let (user, password) = (user(args)?, password(args)?);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::failed)?;
    runtime.block_on(try_login(&config.registry, &host, &user, &password)).map_err(|error| failed(&error))?;
    let place = keep_login(&host, &user, &password).map_err(|error| failed(&error))?;
    print(&format!("logged in to {host} as {user}; kept in {place}"))
}

/// `dbuild logout`.
pub(crate) fn log_out(server: Option<&str>) -> Result<(), Error> {
    let host = host(server);
    match forget_login(&host).map_err(|error| failed(&error))? {
        true => print(&format!("logged out of {host}")),
        false => print(&format!("not logged in to {host}")),
    }
}

fn failed(error: &LoginError) -> Error {
    Error::failed(error).maybe_hint(error.hint())
}

/// The host of a server as people write it: `https://registry.example/v2/`.
fn host(server: Option<&str>) -> String {
    let bare = server.unwrap_or("docker.io");
    let bare = bare.trim_start_matches("https://").trim_start_matches("http://");
    match bare.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" | "" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

fn user(args: &LoginArgs) -> Result<String, Error> {
    if let Some(user) = &args.username {
        return Ok(user.clone());
    }
    let missing = || Error::usage("there is no user to log in").hint("name one with --username USER");
    if args.password_stdin || !std::io::stdin().is_terminal() {
        return Err(missing());
    }
    let _ = Term::stderr().write_str("user: ");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(Error::failed)?;
    let user = line.trim();
    if user.is_empty() { Err(missing()) } else { Ok(user.to_owned()) }
}

fn password(args: &LoginArgs) -> Result<String, Error> {
    if let Some(password) = &args.password {
        let note = "warning: a password on the command line is seen by others: --password-stdin reads it";
        crate::progress::say(note);
        return Ok(password.clone());
    }
    let password = if args.password_stdin {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(Error::failed)?;
        text
    } else if std::io::stdin().is_terminal() {
        let _ = Term::stderr().write_str("password: ");
        Term::stderr().read_secure_line().map_err(Error::failed)?
    } else {
        return Err(Error::usage("there is no terminal to ask for the password").hint("use --password-stdin"));
    };
    let password = password.trim_end_matches(['\n', '\r']);
    match password.is_empty() {
        true => Err(Error::usage("the password is empty")),
        false => Ok(password.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn servers_are_written_in_several_ways() {
        for (server, expected) in [
            (None, "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("ghcr.io"), "ghcr.io"),
            (Some("https://registry.example:5000/v2/"), "registry.example:5000"),
        ] {
            assert_eq!(host(server), expected, "{server:?}");
        }
    }
}
