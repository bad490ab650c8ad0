//! EXPOSE: `[host-ip:][host-port:]port[-port][/protocol]`.

use std::net::IpAddr;

use super::globals;
use super::stage::StageLowering;
use crate::ast::Instruction;
use crate::checks::rules;
use crate::diagnostics::Diagnostic;
use crate::expand::Lexer;
use crate::gotext;
use crate::source::Word;

/// More than all ports of all protocols are not exposed by anybody who means it.
const MOST_PORTS: usize = 200_000;

impl StageLowering<'_> {
    pub(super) fn expose(&mut self, instruction: &Instruction, ports: &[Word]) -> Result<(), Diagnostic> {
        let mut exposed: Vec<String> = Vec::new();
        for word in ports {
            let lexer = Lexer::new(self.graph.escape());
            let expansion = globals::expand(lexer, word, &self.env)?;
            for text in &expansion.words {
                let port = parse(text).map_err(|reason| {
                    let shown: String = text.chars().take(60).collect();
                    Diagnostic::error(word.span, format!("`{shown}` is not a port: {reason}"))
                        .help("write a port, a range or a protocol too: `8080`, `8000-8010`, `53/udp`")
                })?;
                let comments = &instruction.comments;
                if port.protocol.to_lowercase() != port.protocol {
                    let message = format!("the protocol of `{text}` is not in lower case");
                    self.shared.lint.report(&rules::EXPOSE_PROTO_CASING, comments, word.span, message);
                }
                if port.has_host {
                    let message =
                        format!("`{text}` names an address or port of the host, which has no effect");
                    self.shared.lint.report(&rules::EXPOSE_INVALID_FORMAT, comments, word.span, message);
                }
                let protocol = port.protocol.to_lowercase();
                exposed.extend((port.first..=port.last).map(|number| format!("{number}/{protocol}")));
                if exposed.len() > MOST_PORTS {
                    return Err(Diagnostic::error(word.span, "too many ports are exposed at once"));
                }
            }
        }
        for port in &exposed {
            self.config.exposed_ports.entry(port.clone()).or_default();
        }
        self.record(format!("EXPOSE {}", gotext::list(&exposed)), false);
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Ports<'a> {
    first: u16,
    last: u16,
    protocol: &'a str,
    has_host: bool,
}

fn parse(text: &str) -> Result<Ports<'_>, String> {
    let (host, container) = text.rsplit_once(':').map_or((None, text), |(host, port)| (Some(host), port));
    let (ports, protocol) = container.split_once('/').unwrap_or((container, ""));
    if ports.is_empty() {
        return Err("the port is missing".to_owned());
    }
    let protocol = if protocol.is_empty() { "tcp" } else { protocol };
    if !["tcp", "udp", "sctp"].iter().any(|known| protocol.eq_ignore_ascii_case(known)) {
        return Err("the protocol is none of tcp, udp and sctp".to_owned());
    }
    let (ip, host_ports) = match host {
        Some(host) => host.rsplit_once(':').unwrap_or(("", host)),
        None => ("", ""),
    };
    if !ip.is_empty() {
        let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
        bare.parse::<IpAddr>().map_err(|_| "the address of the host is not an IP address".to_owned())?;
    }
    let (first, last) = range(ports)?;
    if !host_ports.is_empty() {
        let (host_first, host_last) = range(host_ports)?;
        // A range of the host may stand for one port.
        if last - first != host_last - host_first && first != last {
            return Err("the two ranges differ in length".to_owned());
        }
    }
    Ok(Ports { first, last, protocol, has_host: !ip.is_empty() || !host_ports.is_empty() })
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let number =
        |text: &str| text.parse::<u16>().map_err(|_| "a port is a number from 0 to 65535".to_owned());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if last < first { Err("the range ends before it begins".to_owned()) } else { Ok((first, last)) }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn ports_are_read() {
        for (text, expected) in [
            ("80", Some((80, 80, "tcp", false))),
            ("80/", Some((80, 80, "tcp", false))),
            ("80/UDP", Some((80, 80, "UDP", false))),
            ("8000-8002/sctp", Some((8000, 8002, "sctp", false))),
            ("1234:80", Some((80, 80, "tcp", true))),
            ("1-5:80", Some((80, 80, "tcp", true))),
            ("0.0.0.0:1-2:3-4/tcp", Some((3, 4, "tcp", true))),
            ("[::1]:80:81", Some((81, 81, "tcp", true))),
            ("::1:80:81", Some((81, 81, "tcp", true))),
            ("::::80", Some((80, 80, "tcp", true))),
            (":80", Some((80, 80, "tcp", false))),
            ("0", Some((0, 0, "tcp", false))),
            ("", None),
            ("x", None),
            ("80/ip", None),
            ("/tcp", None),
            ("9-8", None),
            ("70000", None),
            ("localhost:1:2", None),
            ("1-3:1-2", None),
        ] {
            let found = parse(text).ok().map(|p| (p.first, p.last, p.protocol, p.has_host));
            assert_eq!(found, expected, "{text}");
        }
    }
}
