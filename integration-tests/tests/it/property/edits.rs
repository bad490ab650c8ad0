//! Random projects, and what somebody does to them between two builds. No command of theirs looks
//! at times, which a cached result has from an earlier day.

use super::random::Random;

const FILES: [&str; 6] = ["f0", "f1", "d/f0", "d/f1", "d/e/f0", "d/e/f1"];
const SOURCES: [&str; 6] = [".", "d", "d/e", "f*", "d/f0", "f0"];
const MADE: [&str; 5] = ["/out", "/app", "/app/d", "/out/sum", "/app/f0"];

/// A Dockerfile by its stages; each begins with a FROM.
#[derive(Clone, Debug)]
pub(super) struct Dockerfile(Vec<Vec<String>>);

impl Dockerfile {
    pub(super) fn new(random: &mut Random) -> Self {
        let stages = 2 + random.below(2);
        let stage = |at: usize, random: &mut Random| {
            let from = match at {
                1.. if random.one_in(3) => format!("FROM s{} AS s{at}", at - 1),
                _ => format!("FROM busybox AS s{at}"),
            };
            let mut lines = vec![from, "RUN mkdir -p /out /app/d; echo 0 > /app/f0".to_owned()];
            lines.extend((0..2 + random.below(3)).map(|_| step(at, random)));
            lines
        };
        Self((0..stages).map(|at| stage(at, random)).collect())
    }

    pub(super) fn text(&self) -> String {
        self.0.concat().join("\n") + "\n"
    }

    /// Puts in, takes out, replaces or swaps a step.
    fn edit(&mut self, random: &mut Random) {
        let at = random.below(self.0.len());
        let line = 2 + random.below(self.0[at].len() - 2);
        let new = step(at, random);
        let stage = &mut self.0[at];
        match random.below(4) {
            0 => stage.insert(line, new),
            1 if stage.len() > 3 => drop(stage.remove(line)),
            2 if line + 1 < stage.len() => stage.swap(line, line + 1),
            _ => stage[line] = new,
        }
    }
}

fn step(stage: usize, random: &mut Random) -> String {
    let number = random.below(3);
    let source = random.pick(&SOURCES);
    let dest = random.pick(&["/app/", "/out/c/", "/app/d/", "/new/"]);
    let link = random.pick(&["", "", " --link"]);
    let (made, other) = (random.pick(&MADE), random.below(stage.max(1)));
    let flags = random.pick(&["", "", " --chown=1:2", " --chmod=640"]);
    match random.below(22) {
        0..=3 => format!("COPY{link}{flags} {source} {dest}"),
        4 => format!("COPY --parents --exclude=**/f1 {source} {dest}"),
        5 => format!("ADD{link} a.tar {dest}"),
        6..=8 if stage > 0 => format!("COPY{link}{flags} --from=s{other} {made} {dest}"),
        9 if stage > 0 => {
            format!("RUN --mount=type=bind,from=s{other},target=/m find /m/app /m/out | sort > /out/mounted")
        }
        10 => format!(
            "RUN --mount=type=bind,source={},target=/m cp -r /m /out/m{number}",
            random.pick(&["d", "d/e"])
        ),
        11 => "RUN find /app -type f | sort | xargs cat > /out/sum".to_owned(),
        // Not into what is searched: whether it is there already would be a race.
        12 => "RUN find /app /out | sort > /n; mv /n /out/names; stat -c '%a %u %g %n' /app/* > /out/modes"
            .to_owned(),
        13 => format!("RUN rm -rf /out/copy; cp -a /app /out/copy; true {number}"),
        14 => format!("RUN rm -rf /app/d; mkdir -p /app/d/e; cp -a /app/f0 /app/d/f{number}"),
        15 => "RUN ln -f /app/f0 /app/linked; ln -f /app/f0 /out/linked".to_owned(),
        16 => format!("RUN mv /app/d /app/k; ln -s k /app/d; true {number}"),
        // Another command, the same result.
        17 => format!("RUN wc -c < /app/f0 > /out/size; : {number}"),
        18 => format!("RUN echo {number} > /out/number; chmod 7{number}5 /app"),
        19 => format!("ENV X=/app/{number}"),
        20 => format!("WORKDIR /app/w{number}"),
        _ => format!("ARG Y={number}\nRUN echo $X $Y > /out/variables"),
    }
}

/// The files of a project at first, as lines of shell.
pub(super) fn files(random: &mut Random) -> String {
    let mut lines = vec!["mkdir -p d/e".to_owned()];
    for file in FILES {
        lines.push(format!(
            "echo {} > {file}; touch -d @{} {file}",
            random.below(3),
            1_000_000 + random.below(2)
        ));
    }
    lines.push(archive(random));
    lines.join("\n")
}

fn archive(random: &mut Random) -> String {
    let number = random.below(3);
    format!(
        "mkdir -p t/in && echo {number} > t/in/x && ln -f t/in/x t/in/y && tar -cf a.tar -C t in && rm -r t"
    )
}

/// What is done between two builds: to the Dockerfile, or to the context as a line of shell.
pub(super) fn edit(dockerfile: &mut Dockerfile, random: &mut Random) -> String {
    let (file, other) = (random.pick(&FILES), random.pick(&FILES));
    let number = random.below(3);
    let make = format!("[ -d {file} ] || mkdir -p $(dirname {file})");
    match random.below(16) {
        0..=4 => {
            dockerfile.edit(random);
            "true".to_owned()
        }
        5 | 6 => format!("{make}; echo {number} > {file}"),
        // Size and time stay.
        7 | 8 => format!("touch -r {file} ../stamp; echo {number} > {file}; touch -r ../stamp {file}"),
        9 => format!("chmod {} {file}", random.pick(&["600", "644", "755"])),
        10 => format!("touch {file} {}", random.pick(&["d", "d/e", "f0"])),
        11 => format!("rm -rf {}", random.pick(&["f1", "d/f1", "d/e/f1", "d/e"])),
        12 => format!("{make}; rm -rf {file}; ln -s {} {file}", random.pick(&["f0", "../f0", "none"])),
        13 => format!("{make}; ln -f {other} {file}"),
        14 => format!("{make}; mv {other} {file}"),
        _ => archive(random),
    }
}
