//! `dbuild images`, with the flags that scripts give to Docker's.

use dbuild_support::units::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::image_names::{familiar, name_and_tag};
use super::images::image_of;
use super::{print, print_json};
use crate::cli::{Global, ImageFilter, ImagesArgs};
use crate::error::Error;
use crate::go_template::Template;
use crate::session::Session;

/// An image as a listing shows it.
#[derive(Serialize)]
struct ListedImage {
    name: String,
    digest: String,
    id: String,
    created: Option<String>,
    size: u64,
    platforms: Vec<String>,
    #[serde(skip)]
    labels: Value,
}

/// `dbuild images`.
pub(crate) fn list(global: &Global, args: &ImagesArgs) -> Result<(), Error> {
    let template = args.format.as_deref().map(Template::parse).transpose()?;
    let all = listed(&Session::open(global)?)?;
    let listed = filtered(all, args)?;
    if args.json {
        return print_json(&listed);
    }
    if args.quiet {
        return listed.iter().try_for_each(|image| print(id(image, args)));
    }
    if let Some(template) = template {
        let views: Vec<Value> = listed.iter().map(|image| view(image, args)).collect();
        return template.lines(&views)?.iter().try_for_each(|line| print(line));
    }
    table(&listed, args)
}

fn listed(session: &Session) -> Result<Vec<ListedImage>, Error> {
    let mut listed = Vec::new();
    for entry in session.store.images().map_err(Error::failed)? {
        let Ok(image) = image_of(&entry) else { continue };
        let Ok(inspected) = dbuild_exporter::inspect(&session.store, &image) else {
            crate::progress::say(&format!("warning: {} is damaged: build or pull it again", entry.name));
            continue;
        };
        let first = inspected.images.first();
        let config = |name: &str| first.map(|image| image.config[name].clone()).unwrap_or_default();
        listed.push(ListedImage {
            name: familiar(&entry.name),
            digest: inspected.digest.clone(),
            id: first.map(|image| image.id.clone()).unwrap_or_default(),
            created: config("created").as_str().map(str::to_owned),
            size: inspected.images.iter().map(|image| image.layers_size).sum(),
            platforms: inspected.images.iter().map(|image| platform(&image.config)).collect(),
            labels: config("config")["Labels"].clone(),
        });
    }
    Ok(listed)
}

fn platform(config: &Value) -> String {
    let part = |name: &str| config[name].as_str().unwrap_or("?");
    format!("{}/{}", part("os"), part("architecture"))
}

/// The images that the arguments ask for. Names are alternatives, as in Docker; labels must all be
/// there.
fn filtered(all: Vec<ListedImage>, args: &ImagesArgs) -> Result<Vec<ListedImage>, Error> {
    let created = |wanted: &String| {
        let found = all.iter().find(|image| is_named(image, wanted));
        let found = found.ok_or_else(|| Error::failed(format!("no image is named `{wanted}`")))?;
        Ok::<_, Error>(found.created.clone())
    };
    let (mut names, mut labels, mut before, mut since, mut dangling) = (vec![], vec![], None, None, None);
    names.extend(args.name.iter());
    for filter in &args.filter {
        match filter {
            ImageFilter::Reference(pattern) => names.push(pattern),
            ImageFilter::Label(key, value) => labels.push((key, value)),
            ImageFilter::Before(image) => before = Some(created(image)?),
            ImageFilter::Since(image) => since = Some(created(image)?),
            ImageFilter::Dangling(is_dangling) => dangling = Some(*is_dangling),
        }
    }
    let has_label = |image: &ListedImage, (key, value): &(&String, &Option<String>)| {
        let found = image.labels[key.as_str()].as_str();
        found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
    };
    let is_kept = |image: &ListedImage| {
        // An image of this store has a name in any case.
        dangling != Some(true)
            && (names.is_empty() || names.iter().any(|name| is_named(image, name)))
            && labels.iter().all(|label| has_label(image, label))
            && before.as_ref().is_none_or(|before| image.created < *before)
            && since.as_ref().is_none_or(|since| image.created > *since)
    };
    let kept: Vec<bool> = all.iter().map(is_kept).collect();
    Ok(all.into_iter().zip(kept).filter_map(|(image, is_kept)| is_kept.then_some(image)).collect())
}

/// Whether an image has this name, or is of this repository. `*` stands for any characters but `/`.
fn is_named(image: &ListedImage, pattern: &str) -> bool {
    let (repository, tag) = name_and_tag(&image.name);
    let (wanted, wanted_tag) = name_and_tag(pattern);
    matches(wanted, repository) && (wanted_tag.is_empty() || matches(wanted_tag, tag))
}

fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.take_while(|at| !rest[..*at].contains('/')).any(|at| matches(after, &rest[at..]))
}

fn id<'a>(image: &'a ListedImage, args: &ImagesArgs) -> &'a str {
    if args.no_trunc { &image.id } else { short(&image.id) }
}

fn short(digest: &str) -> &str {
    let digest = digest.trim_start_matches("sha256:");
    digest.get(..12).unwrap_or(digest)
}

/// The fields that Docker's templates know.
fn view(image: &ListedImage, args: &ImagesArgs) -> Value {
    let (repository, tag) = name_and_tag(&image.name);
    let created = image.created.as_deref().and_then(|created| created.parse::<Timestamp>().ok());
    json!({
        "ID": id(image, args),
        "Repository": repository,
        "Tag": tag,
        "Digest": image.digest,
        "CreatedAt": created.map(|at| at.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()),
        "CreatedSince": created.map(|at| since(at, Timestamp::now())),
        "Size": Bytes(image.size).to_string(),
        "Platform": image.platforms.join(","),
    })
}

/// How long ago something was, in the largest unit of which there are two.
fn since(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(at.as_second()).max(0);
    let units = [
        (365 * 86_400, "years"),
        (30 * 86_400, "months"),
        (7 * 86_400, "weeks"),
        (86_400, "days"),
        (3_600, "hours"),
        (60, "minutes"),
    ];
    let found = units.iter().find(|(unit, _)| seconds >= 2 * unit);
    found.map_or_else(
        || format!("{seconds} seconds ago"),
        |(unit, name)| format!("{} {name} ago", seconds / unit),
    )
}

fn table(listed: &[ListedImage], args: &ImagesArgs) -> Result<(), Error> {
    let width = listed.iter().map(|image| image.name.len()).max().unwrap_or(0).max(4);
    let digest = |image: &'_ ListedImage| match args.no_trunc {
        true => image.digest.clone(),
        false => short(&image.digest).to_owned(),
    };
    let wide = if args.no_trunc { 71 } else { 12 };
    print(&format!("{:width$}  {:wide$}  {:>8}  {:20}  PLATFORM", "NAME", "DIGEST", "SIZE", "CREATED"))?;
    for image in listed {
        let created = image.created.as_deref().unwrap_or("-");
        let created = created.get(..19).unwrap_or(created).replace('T', " ");
        let (digest, size, platforms) = (digest(image), Bytes(image.size), image.platforms.join(","));
        print(&format!("{:width$}  {digest:wide$}  {size:>8}  {created:20}  {platforms}", image.name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{matches, since};

    #[test]
    fn names_are_matched_as_docker_does() {
        for (pattern, text, expected) in [
            ("app", "app", true),
            ("a*", "app", true),
            ("*p", "app", true),
            ("a*", "a/b", false),
            ("a*/b", "ax/b", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn ages_are_in_the_largest_unit_of_which_there_are_two() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let ages: Vec<String> =
            [5, 119, 120, 7_200, 200_000, 90 * 86_400].iter().map(|ago| since(at(0), at(*ago))).collect();
        assert_eq!(
            ages,
            [
                "5 seconds ago",
                "119 seconds ago",
                "2 minutes ago",
                "2 hours ago",
                "2 days ago",
                "3 months ago"
            ]
        );
    }
}
