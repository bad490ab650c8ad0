//! The rules, as Docker names them.

/// A rule of `docker build --check`.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, as `# check=skip=` takes it.
    pub name: &'static str,
    /// What to do about a finding.
    pub help: &'static str,
    /// Applied only where `# check=experimental=` asks for it.
    pub experimental: bool,
}

macro_rules! rules {
    ($($constant:ident $name:literal $help:literal $experimental:literal;)*) => {
        $(pub(crate) static $constant: Rule =
            Rule { name: $name, help: $help, experimental: $experimental };)*
        /// All rules.
        pub static ALL: &[&Rule] = &[$(&$constant),*];
    };
}

rules! {
    STAGE_NAME_CASING "StageNameCasing" "write stage names in lower case" false;
    FROM_AS_CASING "FromAsCasing" "write FROM and AS in the same case" false;
    NO_EMPTY_CONTINUATION "NoEmptyContinuation" "remove the blank line, or turn it into a comment" false;
    CONSISTENT_INSTRUCTION_CASING "ConsistentInstructionCasing" "write all keywords in the same case" false;
    DUPLICATE_STAGE_NAME "DuplicateStageName" "give each stage a name of its own; the last of one name counts" false;
    RESERVED_STAGE_NAME "ReservedStageName" "choose another name" false;
    JSON_ARGS_RECOMMENDED "JSONArgsRecommended" "a shell form does not pass signals on; write a JSON array" false;
    MAINTAINER_DEPRECATED "MaintainerDeprecated" "write `LABEL org.opencontainers.image.authors=…`" false;
    UNDEFINED_ARG_IN_FROM "UndefinedArgInFrom" "declare it with ARG before the first FROM" false;
    WORKDIR_RELATIVE_PATH "WorkdirRelativePath" "write an absolute path, so that it does not depend on the base" false;
    UNDEFINED_VAR "UndefinedVar" "declare it with ARG or ENV in this stage" false;
    MULTIPLE_INSTRUCTIONS_DISALLOWED "MultipleInstructionsDisallowed" "keep the last one; the others have no effect" false;
    LEGACY_KEY_VALUE_FORMAT "LegacyKeyValueFormat" "write `name=value`" false;
    INVALID_BASE_IMAGE_PLATFORM "InvalidBaseImagePlatform" "build for the image's platform, or choose another image" false;
    REDUNDANT_TARGET_PLATFORM "RedundantTargetPlatform" "remove the flag: it is the default" false;
    SECRETS_USED_IN_ARG_OR_ENV "SecretsUsedInArgOrEnv" "use `RUN --mount=type=secret`, which leaves nothing in the image" false;
    INVALID_DEFAULT_ARG_IN_FROM "InvalidDefaultArgInFrom" "give the ARG a default that makes the name of an image" false;
    FROM_PLATFORM_FLAG_CONST_DISALLOWED "FromPlatformFlagConstDisallowed"
        "use `$BUILDPLATFORM` or `$TARGETPLATFORM`, or name the stage after the platform" false;
    COPY_IGNORED_FILE "CopyIgnoredFile" "change `.dockerignore`, or do not copy it" false;
    INVALID_DEFINITION_DESCRIPTION "InvalidDefinitionDescription"
        "write `# name description`, or put an empty comment between" true;
    EXPOSE_PROTO_CASING "ExposeProtoCasing" "write the protocol in lower case" false;
    EXPOSE_INVALID_FORMAT "ExposeInvalidFormat" "write the container's port alone; ports are published by `docker run -p`" false;
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_are_22_rules() {
        assert_eq!(super::ALL.len(), 22);
    }
}
