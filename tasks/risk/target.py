"""What is looked for in a checkout, in the names that its own code has for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tasks.risk.models_named import FieldDefinition, ModelClass, Models


@dataclass(frozen=True)
class Named:
    """What is looked for, in the names of the code that is searched.

    `app` and `model` name a model; without a model it is found by `table`, as the database calls that. With `field` or
    `column` a field of it is looked for: by its name, by its column, or by both where a field of that name over another
    column is something else. A `table` that no model has is looked for in SQL alone.
    """

    app: str | None  # label
    model: str | None  # in any case
    table: str | None
    field: str | None = None
    column: str | None = None


@dataclass(frozen=True)
class Target:
    """A model, or a field of it, as one checkout knows it."""

    models: Models
    classes: tuple[ModelClass, ...]  # that define it
    family: tuple[ModelClass, ...]  # those and their bases within the checkout
    label: str | None
    model: str | None  # as the code spells it
    apps: frozenset[str]  # dotted paths of the app's directories
    names: frozenset[str]  # of the field, as instances and queries call it
    definitions: tuple[FieldDefinition, ...]
    complete: bool  # whether all of the model's definition was seen
    leading: frozenset[str]  # what queries of other models call the way to this one
    what: Literal["field", "model", "table"]

    @property
    def shadowed(self) -> bool:
        """Whether the model has something else of the field's name: a property, a method."""
        return any(not self.names.isdisjoint(made.others) for made in self.family)

    def in_app(self, dotted: str) -> bool:
        """Whether a module belongs to the model's app, whichever directory imports begin in."""
        for app in self.apps:
            parts = app.split(".")
            for start in range(len(parts)):
                prefix = ".".join(parts[start:])
                if dotted == prefix or dotted.startswith(f"{prefix}."):
                    return True
        return False


def target(models: Models, named: Named) -> Target:
    """Find what is named among the models of a checkout."""
    classes = models.find(named.app, named.model) if named.app and named.model else []
    if not classes and named.table and not named.model:
        classes = models.find_by_table(named.table)
    of_field = named.field is not None or named.column is not None
    family: dict[tuple[str, str], ModelClass] = {}
    definitions: dict[FieldDefinition, None] = {}
    outside = False
    for made in classes:
        bases, beyond = models.ancestry(made)
        outside = outside or beyond
        family |= {base.key: base for base in bases}
        definitions |= dict.fromkeys(_definitions(made, bases, named) if of_field else ())
    names: set[str] = set().union(*(definition.names for definition in definitions))
    if not names and named.field:
        names = {named.field, *([named.column] if named.column == f"{named.field}_id" else [])}
    model = classes[0].node.name if classes else named.model
    apps = models.sources.apps
    label = named.app or next((key for key in apps if classes and classes[0].app in apps[key]), None)
    places = {made.app for made in classes} | apps.get(label or "", set())
    return Target(
        models=models,
        classes=tuple(classes),
        family=tuple(family.values()),
        label=label,
        model=model,
        apps=frozenset(place.replace("/", ".") for place in places if place not in ("", ".")),
        names=frozenset(names),
        definitions=tuple(definitions),
        complete=bool(classes) and not outside if of_field else bool(classes) or named.app in apps,
        leading=models.leading_to(model) if model and of_field else frozenset(),
        what="field" if of_field else "model" if model else "table",
    )


def _definitions(made: ModelClass, bases: list[ModelClass], named: Named) -> Iterator[FieldDefinition]:
    for base in bases:
        for name, definition in base.fields.items():
            overridden = base is not made and name in made.others
            has_it = named.column is None or definition.has_column(named.column)
            if (named.field or name) == name and has_it and not overridden:
                yield definition
