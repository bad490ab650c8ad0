use super::{Header, Reader};
use crate::testing::{TarBuilder, raw_header};
use crate::{ArchiveError, Mtime};

fn read(bytes: &[u8]) -> Result<Vec<Header>, ArchiveError> {
    let mut reader = Reader::new(bytes, 1 << 30);
    let mut headers = Vec::new();
    while let Some(header) = reader.next()? {
        headers.push(header);
    }
    reader.drain()?;
    Ok(headers)
}

fn error(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

fn records(records: &[(&str, &[u8])]) -> Vec<u8> {
    records.iter().flat_map(|(key, value)| TarBuilder::record(key, value)).collect()
}

#[test]
fn pax_says_what_ustar_cannot() {
    let long = "n/".repeat(200) + "end";
    let capability = b"\x01\0\0\x02\n \n=5 x=y\n\0\xff";
    let pax = records(&[
        ("path", long.as_bytes()),
        ("uid", b"4000000000"),
        ("mtime", b"-1.25"),
        ("SCHILY.xattr.security.capability", capability),
        ("comment", b"ignored"),
    ]);
    let headers = read(&TarBuilder::default().pax(&pax).file("short", b"x").file("next", b"").end()).unwrap();
    assert_eq!(headers[0].name, long.as_bytes());
    assert_eq!(headers[0].uid, 4_000_000_000);
    assert_eq!(headers[0].mtime, Mtime { secs: -2, nanos: 750_000_000 });
    assert_eq!(&*headers[0].xattrs[0].1, capability, "attributes are binary");
    assert_eq!((&headers[1].name[..], headers[1].xattrs.len()), (&b"next"[..], 0), "only the next one");
}

#[test]
fn pax_size_wins_over_the_field() {
    let header = raw_header(b'0', "a", "", 0, |_| ());
    let tar = TarBuilder::default().pax(&records(&[("size", b"3")])).raw(&header).raw(b"abc").raw(&[0; 509]);
    let headers = read(&tar.file("b", b"").end()).unwrap();
    assert_eq!(headers.iter().map(|header| header.size).collect::<Vec<_>>(), [3, 0]);
}

#[test]
fn gnu_long_names_prefixes_and_binary_numbers() {
    let long = "x".repeat(150);
    let tar = TarBuilder::default()
        .member(b'L', "././@LongLink", "", &[long.as_bytes(), b"\0"].concat())
        .member(b'K', "././@LongLink", "", b"target\0")
        .symlink("s", "cut")
        .raw(&raw_header(b'0', "name", "", 0, |block| block[345..348].copy_from_slice(b"pre")))
        .raw(&raw_header(b'0', "big", "", 0, |block| {
            block[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0, 1, 0, 0]);
            block[136..148].copy_from_slice(&[0xff; 12]);
        }))
        .end();
    let headers = read(&tar).unwrap();
    assert_eq!((&headers[0].name[..], &headers[0].link[..]), (long.as_bytes(), &b"target"[..]));
    assert_eq!(headers[1].name, b"pre/name");
    assert_eq!((headers[2].uid, headers[2].mtime.secs), (65536, -1));
}

#[test]
fn what_breaks_the_format_is_refused() {
    let whole = TarBuilder::default().file("a", &[7; 1000]).end();
    assert!(error(&whole[..300]).contains("ends within a header"));
    assert!(error(&whole[..900]).contains("ends within a file"));
    let mut flipped = whole.clone();
    flipped[5] ^= 1;
    assert!(error(&flipped).contains("checksum does not match"));
    for (what, pax) in [
        ("malformed record", b"9 a=b\n".to_vec()),
        ("malformed record", b"99999999999999999999 a=b\n".to_vec()),
        ("malformed record", b"6 =bb\n".to_vec()),
        ("malformed record", b"-6 a=b\n".to_vec()),
        ("number that is none", records(&[("size", b"-1")])),
        ("number that is none", records(&[("uid", b"99999999999999999999")])),
        ("time that is none", records(&[("mtime", b"soon")])),
        ("holds a NUL", records(&[("path", b"a\0b")])),
        ("attribute is impossible", records(&[("SCHILY.xattr.", b"x")])),
    ] {
        let error = error(&TarBuilder::default().pax(&pax).file("a", b"").end());
        assert!(error.contains(what), "{error} should tell of {what}");
    }
    assert!(error(&TarBuilder::default().pax(&records(&[("path", b"a")])).end()).contains("ends after"));
}

#[test]
fn what_would_be_cut_is_refused() {
    for (key, value) in [("uid", "4294967296"), ("gid", "18446744073709551615"), ("uid", "4294967295")] {
        let tar = TarBuilder::default().pax(&records(&[(key, value.as_bytes())])).file("a", b"").end();
        assert!(error(&tar).contains("does not fit into 32 bits"), "{key} {value}");
    }
    let sparse = TarBuilder::default().pax(&records(&[("GNU.sparse.major", b"1")])).file("a", b"").end();
    assert!(error(&sparse).contains("is sparse"));
    let old = TarBuilder::default().member(b'S', "a", "", b"").end();
    assert!(error(&old).contains("is sparse"));
}

#[test]
fn sizes_are_bounded() {
    let huge = raw_header(b'x', "p", "", 2 << 20, |_| ());
    assert!(error(&huge).contains("larger than 1 MiB"));
    let endless = raw_header(b'0', "a", "", 7 << 30, |_| ());
    let zeros = std::io::Read::chain(&endless[..], std::io::repeat(0));
    let mut reader = Reader::new(zeros, 1 << 20);
    reader.next().unwrap();
    assert_eq!(reader.next().unwrap_err().to_string(), "the archive exceeds the limit of 1048576 bytes");
}

#[test]
fn an_end_without_zeros_is_an_end() {
    let whole = TarBuilder::default().file("a", b"x");
    assert_eq!(read(&whole.0).unwrap().len(), 1);
    assert!(read(b"").unwrap().is_empty());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2048),
        fix in proptest::bool::ANY,
    ) {
        if fix && bytes.len() >= 512 {
            let sum: u32 = bytes[..512].iter().enumerate()
                .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let _ = read(&bytes);
    }
}
