//! What the kernel does with programs of another processor: `binfmt_misc`.

use std::path::Path;

/// Whether an emulator runs the programs of an architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Emulation {
    /// `binfmt_misc` is not mounted here: nothing is known.
    Unknown,
    /// It is switched off as a whole.
    Off,
    /// No emulator is registered.
    Missing,
    /// One is, without the flag F: the kernel looks for it in the image, where it is not.
    NotFixed(String),
    /// One is, and is found whatever the root file system.
    Ready(String),
}

impl Emulation {
    /// Asks the kernel. `arch` is what `uname -m` says on such a machine.
    pub fn on_this_machine(arch: &str) -> Self {
        Self::read(Path::new("/proc/sys/fs/binfmt_misc"), arch)
    }

    fn read(dir: &Path, arch: &str) -> Self {
        match std::fs::read_to_string(dir.join("status")) {
            Ok(status) if status.trim() == "disabled" => return Self::Off,
            Ok(_) => {}
            Err(_) => return Self::Unknown,
        }
        let Some(header) = header_of(arch) else { return Self::Missing };
        let mut found = Self::Missing;
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
            let Some(handler) = Handler::parse(&text).filter(|handler| handler.takes(&header)) else {
                continue;
            };
            if handler.fixed {
                return Self::Ready(handler.interpreter);
            }
            found = Self::NotFixed(handler.interpreter);
        }
        found
    }

    /// What to do about it.
    pub fn advice(&self, arch: &str) -> String {
        let install =
            "install an emulator: on Debian and Ubuntu `apt install qemu-user-static binfmt-support`";
        match self {
            Self::Unknown => {
                format!("{install}; in a container it must be registered outside, with the flag F")
            }
            Self::Off => {
                "binfmt_misc is switched off: `echo 1 > /proc/sys/fs/binfmt_misc/status` as root".to_owned()
            }
            Self::Missing => format!("no emulator for {arch} is registered: {install}"),
            Self::NotFixed(interpreter) => format!(
                "{interpreter} is registered without the flag F, so that it is looked for in the image; \
                 qemu-user-static registers it with that flag"
            ),
            Self::Ready(interpreter) => format!("{interpreter} is registered for {arch}; does it run?"),
        }
    }
}

/// An entry of `binfmt_misc` that knows programs by their first bytes.
struct Handler {
    interpreter: String,
    fixed: bool,
    offset: usize,
    magic: Vec<u8>,
    mask: Vec<u8>,
}

impl Handler {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()?.trim() != "enabled" {
            return None;
        }
        let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let magic = bytes(of("magic ")?)?;
        let mask = of("mask ").and_then(bytes).unwrap_or_else(|| vec![0xff; magic.len()]);
        Some(Self {
            interpreter: of("interpreter ")?.to_owned(),
            fixed: of("flags:").is_some_and(|flags| flags.contains('F')),
            offset: of("offset ").and_then(|offset| offset.parse().ok()).unwrap_or(0),
            magic,
            mask,
        })
    }

    fn takes(&self, header: &[u8]) -> bool {
        let Some(part) = header.get(self.offset..self.offset + self.magic.len()) else { return false };
        part.iter().zip(&self.magic).zip(&self.mask).all(|((byte, magic), mask)| byte & mask == magic & mask)
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The first bytes of a program for an architecture: class, byte order, type and machine of the ELF
/// header.
fn header_of(arch: &str) -> Option<[u8; 20]> {
    let (bits, little, machine) = match arch {
        "x86_64" => (64, true, 62_u16),
        "x86" => (32, true, 3),
        "aarch64" => (64, true, 183),
        "arm" => (32, true, 40),
        "riscv64" => (64, true, 243),
        "s390x" => (64, false, 22),
        "powerpc64" => (64, true, 21),
        "mips64" => (64, true, 8),
        "loongarch64" => (64, true, 258),
        _ => return None,
    };
    let mut header = [0; 20];
    header[..4].copy_from_slice(b"\x7fELF");
    (header[4], header[5], header[6]) = (if bits == 64 { 2 } else { 1 }, if little { 1 } else { 2 }, 1);
    let word = |number: u16| if little { number.to_le_bytes() } else { number.to_be_bytes() };
    header[16..18].copy_from_slice(&word(2));
    header[18..20].copy_from_slice(&word(machine));
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::Emulation;
    use std::path::Path;

    const MAGIC: &str = "magic 7f454c460201010000000000000000000200b700\n\
                         mask ffffffffffffff00fffffffffffffffffeffffff\n";

    fn registered(dir: &Path, state: &str, flags: &str) -> Emulation {
        std::fs::write(dir.join("status"), "enabled\n").unwrap();
        let entry =
            format!("{state}\ninterpreter /usr/bin/qemu-aarch64-static\nflags: {flags}\noffset 0\n{MAGIC}");
        std::fs::write(dir.join("qemu-aarch64"), entry).unwrap();
        Emulation::read(dir, "aarch64")
    }

    #[test]
    fn handlers_are_known_by_the_bytes_that_they_take() {
        let dir = tempfile::tempdir().unwrap();
        let qemu = || "/usr/bin/qemu-aarch64-static".to_owned();
        assert_eq!(Emulation::read(dir.path(), "aarch64"), Emulation::Unknown);
        assert_eq!(registered(dir.path(), "enabled", "OCF"), Emulation::Ready(qemu()));
        assert_eq!(Emulation::read(dir.path(), "s390x"), Emulation::Missing);
        assert_eq!(registered(dir.path(), "enabled", "OC"), Emulation::NotFixed(qemu()));
        assert_eq!(registered(dir.path(), "disabled", "F"), Emulation::Missing);
        std::fs::write(dir.path().join("status"), "disabled\n").unwrap();
        assert_eq!(Emulation::read(dir.path(), "aarch64"), Emulation::Off);
    }

    #[test]
    fn advice_names_what_to_install() {
        for state in [Emulation::Unknown, Emulation::Missing] {
            assert!(state.advice("aarch64").contains("qemu-user-static binfmt-support"), "{state:?}");
        }
        let flag = Emulation::NotFixed("/usr/bin/qemu-x".to_owned()).advice("x");
        assert!(flag.starts_with("/usr/bin/qemu-x is registered without the flag F"), "{flag}");
    }
}
