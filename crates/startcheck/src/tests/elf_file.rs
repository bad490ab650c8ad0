//! Writes ELF files: as small as they can be, and as the format wants them.

/// A program or library to write, 64 bits wide, little-endian.
#[derive(Clone, Debug)]
pub(crate) struct ElfFile<'a> {
    pub(crate) machine: u16,
    pub(crate) interpreter: Option<&'a str>,
    pub(crate) needed: &'a [&'a str],
    pub(crate) runpath: Option<&'a str>,
    pub(crate) rpath: Option<&'a str>,
    pub(crate) needs: &'a [(&'a str, &'a [&'a str])],
    pub(crate) provides: &'a [&'a str],
}

impl Default for ElfFile<'_> {
    fn default() -> Self {
        Self {
            machine: 62,
            interpreter: None,
            needed: &[],
            runpath: None,
            rpath: None,
            needs: &[],
            provides: &[],
        }
    }
}

impl<'a> ElfFile<'a> {
    pub(crate) fn glibc(needed: &'a [&'a str]) -> Self {
        Self { interpreter: Some("/lib64/ld-linux-x86-64.so.2"), needed, ..Self::default() }
    }

    pub(crate) fn musl(needed: &'a [&'a str]) -> Self {
        Self { interpreter: Some("/lib/ld-musl-x86_64.so.1"), needed, ..Self::default() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut string = |text: &str| {
            let at = strings.len() as u64;
            strings.extend(text.bytes().chain([0]));
            at
        };
        let mut dynamic: Vec<(u64, u64)> = self.needed.iter().map(|name| (1, string(name))).collect();
        dynamic.extend(self.runpath.map(|dirs| (29, string(dirs))));
        dynamic.extend(self.rpath.map(|dirs| (15, string(dirs))));
        let mut needs = Vec::new();
        for (at, (library, versions)) in self.needs.iter().enumerate() {
            let size = 16 + 16 * versions.len() as u32;
            let next = if at + 1 == self.needs.len() { 0 } else { size };
            push16(&mut needs, &[1, versions.len() as u16]);
            push32(&mut needs, &[string(library) as u32, 16, next]);
            for (at, version) in versions.iter().enumerate() {
                push32(&mut needs, &[0]);
                push16(&mut needs, &[0, 2]);
                push32(&mut needs, &[string(version) as u32, if at + 1 == versions.len() { 0 } else { 16 }]);
            }
        }
        let mut provides = Vec::new();
        for (at, version) in self.provides.iter().enumerate() {
            push16(&mut provides, &[1, 0, at as u16 + 1, 1]);
            push32(&mut provides, &[0, 20, if at + 1 == self.provides.len() { 0 } else { 28 }]);
            push32(&mut provides, &[string(version) as u32, 0]);
        }
        let headers = 2 + usize::from(self.interpreter.is_some());
        let mut at = 64 + 56 * headers as u64;
        let interpreter: Vec<u8> =
            self.interpreter.map(|path| [path.as_bytes(), &[0]].concat()).unwrap_or_default();
        let mut place = |size: usize| {
            let here = at;
            at += size as u64;
            here
        };
        let interpreter_at = place(interpreter.len());
        dynamic.extend([(10, strings.len() as u64), (5, place(strings.len()))]);
        let (needs_at, provides_at) = (place(needs.len()), place(provides.len()));
        dynamic.extend((!needs.is_empty()).then_some((0x6fff_fffe, needs_at)));
        dynamic.extend((!provides.is_empty()).then_some((0x6fff_fffc, provides_at)));
        dynamic.push((0, 0));
        let (dynamic_at, dynamic_size) = (place(0), 16 * dynamic.len() as u64);
        let end = dynamic_at + dynamic_size;

        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        push16(&mut file, &[3, self.machine]);
        push32(&mut file, &[1]);
        push64(&mut file, &[0, 64, 0]);
        push32(&mut file, &[0]);
        push16(&mut file, &[64, 56, headers as u16, 0, 0, 0]);
        let mut header = |kind: u32, offset: u64, size: u64| {
            push32(&mut file, &[kind, 4]);
            // Loaded one page up, so that addresses are not offsets.
            push64(&mut file, &[offset, offset + PAGE, offset + PAGE, size, size, 1]);
        };
        header(1, 0, end);
        header(2, dynamic_at, dynamic_size);
        if self.interpreter.is_some() {
            header(3, interpreter_at, interpreter.len() as u64);
        }
        for part in [interpreter, strings, needs, provides] {
            file.extend(part);
        }
        for (tag, value) in dynamic {
            let is_address = matches!(tag, 5 | 0x6fff_fffe | 0x6fff_fffc);
            push64(&mut file, &[tag, value + if is_address { PAGE } else { 0 }]);
        }
        file
    }
}

const PAGE: u64 = 0x1000;

fn push16(bytes: &mut Vec<u8>, numbers: &[u16]) {
    numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
}

fn push32(bytes: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
}

fn push64(bytes: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
}
