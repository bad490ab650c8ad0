//! The rules, as Docker names them.

/// A rule of `docker build --check`.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, as `# check=skip=` takes it.
    pub name: &'static str,
    /// What is asked for, in one sentence.
    pub description: &'static str,
    /// What to do about a finding.
    pub help: &'static str,
    /// Applied only where `# check=experimental=` asks for it.
    pub experimental: bool,
    /// The last part of the address of Docker's page about it.
    page: Option<&'static str>,
}

impl Rule {
    /// The rule of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|rule| rule.name == name).copied()
    }

    /// Docker's page about it, where there is one.
    pub fn url(&self) -> Option<String> {
        self.page.map(|page| format!("https://docs.docker.com/go/dockerfile/rule/{page}/"))
    }
}

macro_rules! rules {
    ($($constant:ident $name:literal $page:expr, $description:literal, $help:literal;)*) => {
        $(pub(crate) static $constant: Rule = Rule {
            name: $name,
            description: $description,
            help: $help,
            experimental: matches!($name.as_bytes(), b"InvalidDefinitionDescription"),
            page: $page,
        };)*
        /// All rules.
        pub static ALL: &[&Rule] = &[$(&$constant),*];
    };
}

rules! {
    STAGE_NAME_CASING "StageNameCasing" Some("stage-name-casing"),
        "names of stages are in lower case",
        "write stage names in lower case";
    FROM_AS_CASING "FromAsCasing" Some("from-as-casing"),
        "FROM and AS are in the same case",
        "write FROM and AS in the same case";
    NO_EMPTY_CONTINUATION "NoEmptyContinuation" Some("no-empty-continuation"),
        "a continued instruction has no blank lines",
        "remove the blank line, or turn it into a comment";
    CONSISTENT_INSTRUCTION_CASING "ConsistentInstructionCasing" Some("consistent-instruction-casing"),
        "all keywords are in the same case",
        "write all keywords in the same case";
    DUPLICATE_STAGE_NAME "DuplicateStageName" Some("duplicate-stage-name"),
        "each stage has a name of its own",
        "give each stage a name of its own; the last of one name counts";
    RESERVED_STAGE_NAME "ReservedStageName" Some("reserved-stage-name"),
        "no stage has a name that means something else",
        "choose another name";
    JSON_ARGS_RECOMMENDED "JSONArgsRecommended" Some("json-args-recommended"),
        "CMD and ENTRYPOINT are JSON arrays, so that signals reach the program",
        "a shell form does not pass signals on; write a JSON array";
    MAINTAINER_DEPRECATED "MaintainerDeprecated" Some("maintainer-deprecated"),
        "the author is named by a label, not by MAINTAINER",
        "write `LABEL org.opencontainers.image.authors=…`";
    UNDEFINED_ARG_IN_FROM "UndefinedArgInFrom" Some("undefined-arg-in-from"),
        "FROM uses variables that were declared before it",
        "declare it with ARG before the first FROM";
    WORKDIR_RELATIVE_PATH "WorkdirRelativePath" Some("workdir-relative-path"),
        "a first WORKDIR is an absolute path",
        "write an absolute path, so that it does not depend on the base";
    UNDEFINED_VAR "UndefinedVar" Some("undefined-var"),
        "variables are defined before they are used",
        "declare it with ARG or ENV in this stage";
    MULTIPLE_INSTRUCTIONS_DISALLOWED "MultipleInstructionsDisallowed" Some("multiple-instructions-disallowed"),
        "a stage has one CMD, one ENTRYPOINT and one HEALTHCHECK at most",
        "keep the last one; the others have no effect";
    LEGACY_KEY_VALUE_FORMAT "LegacyKeyValueFormat" Some("legacy-key-value-format"),
        "ENV and LABEL are written with `=`",
        "write `name=value`";
    INVALID_BASE_IMAGE_PLATFORM "InvalidBaseImagePlatform" None,
        "a base image is for the platform that is built for",
        "build for the image's platform, or choose another image";
    REDUNDANT_TARGET_PLATFORM "RedundantTargetPlatform" Some("redundant-target-platform"),
        "FROM does not ask for the platform that it takes anyway",
        "remove the flag: it is the default";
    SECRETS_USED_IN_ARG_OR_ENV "SecretsUsedInArgOrEnv" Some("secrets-used-in-arg-or-env"),
        "secrets are in neither ARG nor ENV",
        "use `RUN --mount=type=secret`, which leaves nothing in the image";
    INVALID_DEFAULT_ARG_IN_FROM "InvalidDefaultArgInFrom" Some("invalid-default-arg-in-from"),
        "FROM names an image also when no build argument is given",
        "give the ARG a default that makes the name of an image";
    FROM_PLATFORM_FLAG_CONST_DISALLOWED "FromPlatformFlagConstDisallowed"
        Some("from-platform-flag-const-disallowed"),
        "the platform of FROM is a variable, or the stage's name tells it",
        "use `$BUILDPLATFORM` or `$TARGETPLATFORM`, or name the stage after the platform";
    COPY_IGNORED_FILE "CopyIgnoredFile" Some("copy-ignored-file"),
        "what is copied is not excluded by .dockerignore",
        "change `.dockerignore`, or do not copy it";
    INVALID_DEFINITION_DESCRIPTION "InvalidDefinitionDescription" Some("invalid-definition-description"),
        "a comment right above FROM or ARG describes it, and begins with its name",
        "write `# name description`, or put an empty comment between";
    EXPOSE_PROTO_CASING "ExposeProtoCasing" Some("expose-proto-casing"),
        "protocols of EXPOSE are in lower case",
        "write the protocol in lower case";
    EXPOSE_INVALID_FORMAT "ExposeInvalidFormat" Some("expose-invalid-format"),
        "EXPOSE names ports of the container alone",
        "write the container's port alone; ports are published by `docker run -p`";
}

#[cfg(test)]
mod tests {
    use super::{ALL, Rule};

    #[test]
    fn there_are_22_rules() {
        assert_eq!(ALL.len(), 22);
        let experimental: Vec<&str> =
            ALL.iter().filter(|rule| rule.experimental).map(|rule| rule.name).collect();
        assert_eq!(experimental, ["InvalidDefinitionDescription"]);
    }

    #[test]
    fn the_page_is_named_after_the_rule() {
        for rule in ALL.iter().filter(|rule| rule.page.is_some()) {
            let joined = rule.page.unwrap_or_default().replace('-', "");
            assert_eq!(joined, rule.name.to_lowercase());
        }
        assert_eq!(Rule::named("InvalidBaseImagePlatform").and_then(Rule::url), None);
    }
}
