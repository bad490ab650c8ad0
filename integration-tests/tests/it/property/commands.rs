//! Random commands in a random tree.

use super::random::Random;

/// Names that collide often.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const BELOW: [&str; 3] = ["x", "y", "z"];
const TIMES: [u32; 4] = [5, 499_162_500, 1_000_000_000, 1_700_000_001];

/// A path of one to three names.
fn path(random: &mut Random) -> String {
    let mut path = random.pick(&NAMES).to_owned();
    if !random.one_in(3) {
        path = format!("{path}/{}", random.pick(&BELOW));
        if random.one_in(2) {
            path = format!("{path}/{}", random.pick(&BELOW));
        }
    }
    path
}

/// The tree that a sequence begins with: lines of shell that make it in the current directory, all
/// with one time.
pub(super) fn tree(random: &mut Random) -> String {
    let mut lines = Vec::new();
    for _ in 0..6 + random.below(10) {
        let path = path(random);
        let above = path.rsplit_once('/').map_or(".", |(above, _)| above);
        lines.push(match random.below(7) {
            0 => format!("mkdir -p {path}"),
            1 => format!("mkdir -p {above} && ln -s {} {path}", random.pick(&["a", "../b", "x", "none"])),
            2 => format!("mkdir -p {above} && [ ! -d {path} ] && ln -f a/x {path}"),
            3 => format!("mkdir -p {above} && mkfifo {path}"),
            _ => format!("mkdir -p {above} && [ ! -p {path} ] && echo {} > {path}", random.below(3)),
        });
        lines.push(format!("chmod {} {path}", random.pick(&["644", "755", "700", "1777", "4755"])));
    }
    lines.push("find . -exec touch -h -d @499162500 {} +".to_owned());
    lines.join("\n")
}

/// A few commands, a line each. `$ORIG` is what the tree was at first; `$T` is the tool.
pub(super) fn commands(random: &mut Random) -> Vec<String> {
    (0..3 + random.below(7)).map(|_| command(random)).collect()
}

fn command(random: &mut Random) -> String {
    let (p, q) = (path(random), path(random));
    let below = random.pick(&BELOW);
    let time = random.pick(&TIMES);
    match random.below(40) {
        0 | 1 => format!("rm -rf {p}"),
        2 => format!("rm -rf {p}; mkdir {p}"),
        3 => format!("rm -rf {p}; mkdir -p {p}/{below}; touch -d @499162500 {p}/{below} {p}"),
        // The same once more, in several ways.
        4..=6 => format!("rm -rf {p}; cp -a $ORIG/{p} {p}"),
        7 | 8 => format!("rm -rf .t; cp -a {p} .t && rm -rf {p} && mv .t {p}"),
        9 => format!("tar cf .tar {p} && rm -rf {p}; tar xf .tar; rm -f .tar"),
        10 => "tar cf .tar -C $ORIG . && find . -mindepth 1 -delete; tar xf .tar; rm -f .tar".to_owned(),
        11 => format!("mv {p} .k && ln -s .k {p} && rm {p} && mv .k {p}"),
        12 => format!("mv {p} .k && mkdir {p} && rmdir {p} && mv .k {p}"),
        13 => format!("mv {p} .l && ln -s .l {p}"),
        14..=16 => format!("mv {p} {q}"),
        17 => format!("rm -rf {q}; mv {p} {q}"),
        18 | 19 => format!("rm -rf .t; cp -a {p} .t && rm -rf {q} && mv .t {q}"),
        20 | 21 => format!("ln {p} {q}"),
        22 => format!("ln -f {p} {q}"),
        23 => format!("rm -rf {p}; ln -s {} {p}", random.pick(&["a", "../b", "x", "none", "b/y"])),
        24 => format!("touch -h -d @{time} {p}"),
        25 => format!("touch -d @{time} {p} ."),
        26 => format!("touch {p}"),
        27 => format!("chmod {} {p}", random.pick(&["600", "755", "2755", "4711", "1777"])),
        28 => format!("chown {} {p}", random.pick(&["5:6", "0:0", "1000:1000", "7"])),
        29 => format!("chown -h 9:9 {p}; chown -R 0:0 {q}"),
        30 => format!("$T setcap {p}; $T xattr {p}"),
        // Nobody reads from a FIFO.
        31 => format!("[ -p {p} ] || echo {} > {p}", random.below(3)),
        32 => format!("[ -p {p} ] || echo more >> {p}"),
        33 => format!("[ -p {p} ] || true >> {p}; [ -p {q} ] || true >> {q}"),
        34 => format!("mkdir -p {p}"),
        35 => format!("$T socket {p}; touch -d @{time} ."),
        36 => format!("[ -p {p} ] || $T sparse {p}"),
        37 => format!("mkfifo {p}; mknod {q} {}", random.pick(&["c 1 3", "b 7 0"])),
        38 => "mkdir -p m/x; touch m/y; touch -d @5 m".to_owned(),
        _ => format!("rm -rf m; touch {q}/stub; rm {q}/stub"),
    }
}
