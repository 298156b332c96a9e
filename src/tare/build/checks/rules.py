"""The published build checks as data.

Names, descriptions and messages are those of BuildKit's rule set (``frontend/dockerfile/linter/ruleset.go``), since
users and tools match them. Each rule has a page in ``docs/checks``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PUBLISHED = "https://docs.docker.com/go/dockerfile/rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One build check.

    ``message`` is a format string; its fields are the keywords that the finder gives. An ``experimental`` rule is off
    unless it is asked for. ``published`` is false for the one rule without a page of Docker's.
    """

    name: str
    description: str
    message: str
    experimental: bool = False
    published: bool = True

    @property
    def slug(self) -> str:
        """The name as in addresses: ``stage-name-casing``."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", self.name).lower()

    @property
    def page(self) -> str:
        """The rule's page in this project."""
        return f"docs/checks/{self.slug}.md"

    @property
    def url(self) -> str:
        """The address that BuildKit gives; empty where it gives none."""
        return f"{_PUBLISHED}/{self.slug}/" if self.published else ""


STAGE_NAME_CASING = Rule(
    name="StageNameCasing",
    description="Stage names should be lowercase",
    message="Stage name '{name}' should be lowercase",
)
FROM_AS_CASING = Rule(
    name="FromAsCasing",
    description="The 'as' keyword should match the case of the 'from' keyword",
    message="'{as_}' and '{from_}' keywords' casing do not match",
)
NO_EMPTY_CONTINUATION = Rule(
    name="NoEmptyContinuation",
    description="Empty continuation lines will become errors in a future release",
    message="Empty continuation line",
)
CONSISTENT_INSTRUCTION_CASING = Rule(
    name="ConsistentInstructionCasing",
    description="All commands within the Dockerfile should use the same casing (either upper or lower)",
    message="Command '{name}' should match the case of the command majority ({casing})",
)
DUPLICATE_STAGE_NAME = Rule(
    name="DuplicateStageName",
    description="Stage names should be unique",
    message='Duplicate stage name "{name}", stage names should be unique',
)
RESERVED_STAGE_NAME = Rule(
    name="ReservedStageName",
    description="Reserved words should not be used as stage names",
    message='Stage name should not use the same name as reserved stage "{name}"',
)
JSON_ARGS_RECOMMENDED = Rule(
    name="JSONArgsRecommended",
    description="JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    message="JSON arguments recommended for {name} to prevent unintended behavior related to OS signals",
)
MAINTAINER_DEPRECATED = Rule(
    name="MaintainerDeprecated",
    description="The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    message="Maintainer instruction is deprecated in favor of using label",
)
UNDEFINED_ARG_IN_FROM = Rule(
    name="UndefinedArgInFrom",
    description="FROM command must use declared ARGs",
    message="FROM argument '{name}' is not declared{suggestion}",
)
WORKDIR_RELATIVE_PATH = Rule(
    name="WorkdirRelativePath",
    description="Relative workdir without an absolute workdir declared within the build can have unexpected results"
    " if the base image changes",
    message="Relative workdir {path} can have unexpected results if the base image changes",
)
UNDEFINED_VAR = Rule(
    name="UndefinedVar",
    description="Variables should be defined before their use",
    message="Usage of undefined variable '${name}'{suggestion}",
)
MULTIPLE_INSTRUCTIONS_DISALLOWED = Rule(
    name="MultipleInstructionsDisallowed",
    description="Multiple instructions of the same type should not be used in the same stage",
    message="Multiple {name} instructions should not be used in the same stage because only the last one will be used",
)
LEGACY_KEY_VALUE_FORMAT = Rule(
    name="LegacyKeyValueFormat",
    description="Legacy key/value format with whitespace separator should not be used",
    message='"{name} key=value" should be used instead of legacy "{name} key value" format',
)
INVALID_BASE_IMAGE_PLATFORM = Rule(
    name="InvalidBaseImagePlatform",
    description="Base image platform does not match expected target platform",
    message='Base image {image} was pulled with platform "{actual}", expected "{expected}" for current build',
    published=False,
)
REDUNDANT_TARGET_PLATFORM = Rule(
    name="RedundantTargetPlatform",
    description="Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    message="Setting platform to predefined {variable} in FROM is redundant as this is the default behavior",
)
SECRETS_USED_IN_ARG_OR_ENV = Rule(
    name="SecretsUsedInArgOrEnv",
    description="Sensitive data should not be used in the ARG or ENV commands",
    message='Do not use ARG or ENV instructions for sensitive data ({kind} "{name}")',
)
INVALID_DEFAULT_ARG_IN_FROM = Rule(
    name="InvalidDefaultArgInFrom",
    description="Default value for global ARG results in an empty or invalid base image name",
    message="Default value for ARG {name} results in empty or invalid base image name",
)
FROM_PLATFORM_FLAG_CONST_DISALLOWED = Rule(
    name="FromPlatformFlagConstDisallowed",
    description="FROM --platform flag should not use a constant value",
    message='FROM --platform flag should not use constant value "{platform}"',
)
COPY_IGNORED_FILE = Rule(
    name="CopyIgnoredFile",
    description="Attempting to Copy file that is excluded by .dockerignore",
    message="Attempting to {command} file {path} that is excluded by .dockerignore",
    experimental=True,
)
INVALID_DEFINITION_DESCRIPTION = Rule(
    name="InvalidDefinitionDescription",
    description="Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`."
    " If this is not intended to be a description comment, add an empty line or comment between the instruction and"
    " the comment.",
    message="Comment for {instruction} should follow the format: `# {name} <description>`",
    experimental=True,
)
EXPOSE_PROTO_CASING = Rule(
    name="ExposeProtoCasing",
    description="Protocol in EXPOSE instruction should be lowercase",
    message="Defined protocol '{port}' in EXPOSE instruction should be lowercase",
)
EXPOSE_INVALID_FORMAT = Rule(
    name="ExposeInvalidFormat",
    description="IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error"
    " in a future release",
    message="EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'",
)

RULES: tuple[Rule, ...] = (
    STAGE_NAME_CASING,
    FROM_AS_CASING,
    NO_EMPTY_CONTINUATION,
    CONSISTENT_INSTRUCTION_CASING,
    DUPLICATE_STAGE_NAME,
    RESERVED_STAGE_NAME,
    JSON_ARGS_RECOMMENDED,
    MAINTAINER_DEPRECATED,
    UNDEFINED_ARG_IN_FROM,
    WORKDIR_RELATIVE_PATH,
    UNDEFINED_VAR,
    MULTIPLE_INSTRUCTIONS_DISALLOWED,
    LEGACY_KEY_VALUE_FORMAT,
    INVALID_BASE_IMAGE_PLATFORM,
    REDUNDANT_TARGET_PLATFORM,
    SECRETS_USED_IN_ARG_OR_ENV,
    INVALID_DEFAULT_ARG_IN_FROM,
    FROM_PLATFORM_FLAG_CONST_DISALLOWED,
    COPY_IGNORED_FILE,
    INVALID_DEFINITION_DESCRIPTION,
    EXPOSE_PROTO_CASING,
    EXPOSE_INVALID_FORMAT,
)
"""All rules, in the order in which they are published."""
