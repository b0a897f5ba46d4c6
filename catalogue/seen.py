"""What there is of an environment by the files: the objects as kustomize builds them, and Vault's side by path."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.error import YAMLError

from catalogue.problems import Problem, in_yaml
from catalogue.rendered import Object, Tree, objects_in

POLICY_LINE = re.compile(r'path "([^"]+)" \{ capabilities = \[("[a-z]+"(?:, "[a-z]+")*)\] \}')
Policy = dict[str, set[str]]
"""Path → capabilities."""


@dataclass(frozen=True)
class Found:
    """An object, and the file that it is in."""

    object: Object
    file: str

    @property
    def kind(self) -> str:
        return str(self.object.get("kind", ""))

    @property
    def name(self) -> str:
        return str(self.at("metadata", "name"))

    @property
    def namespace(self) -> str:
        return str(self.at("metadata", "namespace"))

    def at(self, *steps: str | int) -> Any:
        """What is there, step by step; "" where nothing is."""
        value: Any = self.object
        for step in steps:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return ""
        return value


@dataclass
class Seen:
    """One environment."""

    environment: str
    objects: list[Found] = field(default_factory=list)
    policies: dict[str, Policy] = field(default_factory=dict)
    vault: dict[str, Any] = field(default_factory=dict)
    """Path of the API → what is written there."""
    problems: list[Problem] = field(default_factory=list)
    """What could not be read."""

    def of_kind(self, *kinds: str) -> Iterator[Found]:
        return (each for each in self.objects if each.kind in kinds)

    def has(self, kind: str, namespace: str, name: str) -> bool:
        return any((each.namespace, each.name) == (namespace, name) for each in self.of_kind(kind))


def seen_in(tree: Tree, environment: str) -> Seen:
    """All that the files say of an environment."""
    seen = Seen(environment)
    built(tree, f"synced/{environment}", "", seen)
    prefix = f"vault/{environment}/"
    for name, text in tree.items():
        if not name.startswith(prefix):
            continue
        if name.endswith(".hcl"):
            policy = name.removeprefix(f"{prefix}sys/policies/acl/").removesuffix(".hcl")
            seen.policies[policy] = policy_in(text, name, seen.problems)
        elif name.endswith(".json"):
            try:
                seen.vault[name.removeprefix(prefix).removesuffix(".json")] = json.loads(text)
            except ValueError as error:
                seen.problems.append(Problem(0, f"is no JSON: {error}", name))
    return seen


def built(tree: Tree, folder: str, namespace: str, seen: Seen) -> None:
    """As `kubectl kustomize` builds what is rendered, which has resources and a namespace and nothing else."""
    file = f"{folder}/kustomization.yaml"
    found = parsed(tree, file, seen.problems)
    if not found:
        return
    namespace = namespace or str(found[0].get("namespace", ""))
    for resource in found[0].get("resources", []):
        path = posixpath.normpath(f"{folder}/{resource}")
        if f"{path}/kustomization.yaml" in tree:
            built(tree, path, namespace, seen)
            continue
        for each in parsed(tree, path, seen.problems):
            seen.objects.append(Found({**each, "metadata": {**each.get("metadata", {}), "namespace": namespace}}, path))


def parsed(tree: Tree, file: str, problems: list[Problem]) -> list[Object]:
    if file not in tree:
        problems.append(Problem(0, "is missing", file))
        return []
    try:
        found = objects_in(tree[file])
    except YAMLError as error:
        line, said = in_yaml(error)
        problems.append(Problem(0, f"is no YAML, line {line}: {said}", file))
        return []
    return [each for each in found if isinstance(each, dict)]


def policy_in(text: str, file: str, problems: list[Problem]) -> Policy:
    """The paths of a policy. Only the form that is rendered is understood; the rest is a problem, not a guess."""
    policy: Policy = {}
    for line in text.splitlines():
        found = POLICY_LINE.fullmatch(line)
        if found:
            policy.setdefault(found[1], set()).update(re.findall(r"[a-z]+", found[2]))
        elif line.strip() and not line.startswith("#"):
            problems.append(Problem(0, f"is not understood: {line}", file))
    return policy


def allows(policy: Mapping[str, set[str]], path: str, capability: str) -> bool:
    """Whether a policy lets do this, as Vault reads it: * at the end, + for one part."""
    return any(capability in may and pattern(of).fullmatch(path) for of, may in policy.items())


def pattern(path: str) -> re.Pattern[str]:
    start, glob = path.removesuffix("*"), ".*" if path.endswith("*") else ""
    return re.compile("/".join("[^/]+" if part == "+" else re.escape(part) for part in start.split("/")) + glob)
