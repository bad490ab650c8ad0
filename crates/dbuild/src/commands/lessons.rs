//! `dbuild demo --lesson`: the lessons of `docs/guide/lessons/`, with their projects.

use std::path::{Path, PathBuf};

use super::demo::write_file;
use super::print;
use crate::error::Error;

/// A lesson: its text, and the project that it works on.
struct Lesson {
    /// Its number and a word: `01-stages`.
    slug: &'static str,
    /// Markdown; the first line is the title.
    text: &'static str,
    files: &'static [(&'static str, &'static [u8])],
}

/// In order; `build.rs` collects them.
const LESSONS: &[Lesson] = include!(concat!(env!("OUT_DIR"), "/lessons.rs"));

/// Where the text lies in a lesson's project.
const TEXT: &str = "LESSON.md";

/// Lists the lessons.
pub(crate) fn list() -> Result<(), Error> {
    for (index, lesson) in LESSONS.iter().enumerate() {
        print(&format!("{:>2}  {}", index + 1, lesson.title()))?;
    }
    print("\n`dbuild demo --lesson N` writes a lesson and its project")
}

/// Writes a lesson's project into a directory, as it is at the lesson's beginning.
pub(crate) fn write(number: usize, dir: Option<&Path>) -> Result<(), Error> {
    let lesson = number.checked_sub(1).and_then(|index| LESSONS.get(index));
    let lesson = lesson.ok_or_else(|| {
        Error::usage(format!("there is no lesson {number}: they are 1 to {}", LESSONS.len()))
            .hint("`dbuild demo --lesson` lists them")
    })?;
    let dir = dir.map_or_else(|| PathBuf::from(format!("dbuild-lesson-{number}")), Path::to_owned);
    if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) && !dir.join(TEXT).exists() {
        return Err(Error::failed(format!("{} contains another project", dir.display()))
            .hint("name another directory: dbuild demo --lesson N DIR"));
    }
    for (name, bytes) in lesson.files {
        write_file(&dir.join(name), bytes)?;
    }
    write_file(&dir.join(TEXT), lesson.text.as_bytes())?;
    print(&format!("lesson {number}: {}", lesson.title()))?;
    print(&format!("its project is in {0}; read {0}/{TEXT}, and try its commands there", dir.display()))
}

impl Lesson {
    fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or(self.slug).trim_start_matches(['#', ' '])
    }
}

#[cfg(test)]
mod tests {
    use super::LESSONS;

    #[test]
    fn lessons_are_numbered_from_one_and_have_a_dockerfile_and_a_title() {
        assert!(!LESSONS.is_empty());
        for (index, lesson) in LESSONS.iter().enumerate() {
            assert!(lesson.slug.starts_with(&format!("{:02}-", index + 1)), "{}", lesson.slug);
            assert!(lesson.text.starts_with("# "), "{}", lesson.slug);
            assert!(lesson.files.iter().any(|(name, _)| name.starts_with("Dockerfile")), "{}", lesson.slug);
        }
    }
}
