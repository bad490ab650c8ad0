//! A layer is one gzip member, and readers that stop after the first member read all of it.

use std::path::PathBuf;
use std::process::Command;

use dbuild_integration_tests::{TestSpace, run};

/// Reads as zlib does when it is called once, and as Python does from a stream; prints how many
/// bytes each found and the names in the archive.
const PYTHON: &str = "\
import sys, tarfile, zlib
data = open(sys.argv[1], 'rb').read()
once = zlib.decompressobj(31)
length = len(once.decompress(data)) + len(once.flush())
names = [member.name for member in tarfile.open(mode='r|gz', fileobj=open(sys.argv[1], 'rb'))]
print(length, once.eof, len(once.unused_data), *names)
";

/// Reads as a Java program does from a socket: `GZIPInputStream` looks for another member only
/// where `available()` says that there is more.
const JAVA: &str = "\
import java.io.*;
import java.util.zip.GZIPInputStream;
class Member {
    public static void main(String[] args) throws IOException {
        InputStream file = new FilterInputStream(new FileInputStream(args[0])) {
            @Override public int available() { return 0; }
        };
        System.out.println(new GZIPInputStream(file).readAllBytes().length);
    }
}
";

/// Files of several blocks each: text, what does not shrink, zeros, and many small ones.
fn write_context(space: &TestSpace) {
    let text: String = (0..300_000).map(|n| format!("{n} ")).collect();
    space.write("context/text", &text);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = (0..200_000).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    std::fs::write(space.path("context/noise"), noise.collect::<Vec<u8>>()).unwrap();
    std::fs::write(space.path("context/zeros"), vec![0; 3 << 20]).unwrap();
    for n in 0..300 {
        space.write(format!("context/small/{n}"), &text[n..n * 20 + 1]);
    }
}

/// The layers that a build of this output writes, the base's left out, and the digests of their
/// tars.
fn layers(space: &TestSpace, flags: &[&str]) -> Vec<PathBuf> {
    let dockerfile = "FROM busybox\nCOPY . /context\nRUN cat /context/text /context/noise > /both\n";
    let output = "type=oci,dest=layout,tar=false";
    space.build(dockerfile, [&["-o", output], flags].concat()).run().expect_ok();
    let json = |path: &str| -> serde_json::Value { serde_json::from_str(&space.read(path)).unwrap() };
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        format!("layout/blobs/sha256/{digest}")
    };
    let manifest = json(&blob(&json("layout/index.json")["manifests"][0]));
    manifest["layers"].as_array().unwrap()[1..].iter().map(|layer| space.path(blob(layer))).collect()
}

#[test]
fn readers_of_one_member_read_a_whole_layer() {
    let space = TestSpace::new();
    write_context(&space);
    let layers = layers(&space, &[]);
    assert_eq!(layers.len(), 2);
    for (layer, name) in layers.iter().zip(["context/small/299", "both"]) {
        // It reads all members that there are.
        let whole = space.shell("", &format!("gzip -dc {} | wc -c", layer.display())).expect_ok();
        let length = whole.stdout.trim();
        let read = run(Command::new("python3").arg("-c").arg(PYTHON).arg(layer)).expect_ok();
        assert!(read.stdout.starts_with(&format!("{length} True 0 ")), "{length}: {read:?}");
        read.stdout_has(&[name]);
        if has_java() {
            space.write("Member.java", JAVA);
            let read = run(Command::new("java").arg(space.path("Member.java")).arg(layer));
            assert_eq!(read.expect_ok().stdout.trim(), length);
        }
    }
}

/// A JDK: it is not installed for the tests, and used where it is.
fn has_java() -> bool {
    let modules = Command::new("java").arg("--list-modules").output();
    modules.is_ok_and(|modules| String::from_utf8_lossy(&modules.stdout).contains("jdk.compiler"))
}

/// Also when blocks are found that an earlier layer has.
#[test]
fn a_layer_whose_blocks_are_known_is_the_one_that_an_empty_store_packs() {
    let (space, other) = (TestSpace::new(), TestSpace::new());
    for space in [&space, &other] {
        write_context(space);
    }
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
    layers(&space, &epoch);
    let small = "another text";
    space.write("context/small/7", small);
    other.write("context/small/7", small);
    let bytes = |space: &TestSpace| -> Vec<Vec<u8>> {
        layers(space, &epoch).iter().map(|layer| std::fs::read(layer).unwrap()).collect()
    };
    assert!(bytes(&space)[0] == bytes(&other)[0]);
}

/// zstd with several threads writes one frame, too: a second one would have its own magic number.
#[test]
fn a_zstd_layer_is_one_frame() {
    let space = TestSpace::new();
    write_context(&space);
    let dockerfile = "FROM scratch\nCOPY . /context\n";
    let output = "type=oci,dest=layout,tar=false,compression=zstd";
    space.build(dockerfile, ["-o", output]).run().expect_ok();
    let listed =
        space.shell("", "for blob in layout/blobs/sha256/*; do zstd -lv $blob 2>/dev/null; done; true");
    listed.expect_ok().stdout_has(&["# Zstandard Frames: 1\n"]);
}
