# mypy: ignore-errors
# Part of probe.py: runs inside the application's interpreter, Python >= 3.6 and Django 3.2 to 6.0.
"""Find the migration that made each model and field, and the tables that moved from one model to another."""

from django.db.migrations import operations as ops


class Origins:
    """The migration that made each model and field of the state, and the one that last changed it."""

    def __init__(self, migrations):
        self.models = {}  # (app, model) to {"made": migration, "fields": {name: [made, changed]}}
        self.tables = {}  # (app, model) to its table
        # Tables that were renamed or dropped for one model, and may be another's: it is moving to another app.
        self.given_away = set()
        for migration in migrations:
            for op in migration.operations:
                self.note(op, migration.app_label, migration)

    def note(self, op, app, migration, real=True):
        """Follow one operation, as far as it changes the state; ``real``: the database as well."""
        for held in getattr(op, "database_operations", None) or []:
            self.note_table(held, app, database_only=True)
        for held in getattr(op, "state_operations", None) or []:
            self.note(held, app, migration, real=False)
        self.note_table(op, app, state_only=not real)
        if isinstance(op, ops.CreateModel):
            fields = {name.lower(): [migration, migration] for name, _ in op.fields}
            self.models[app, op.name.lower()] = {"made": migration, "fields": fields}
        elif isinstance(op, ops.DeleteModel):
            self.models.pop((app, op.name.lower()), None)
        elif isinstance(op, ops.RenameModel):
            self.models[app, op.new_name.lower()] = self.models.pop((app, op.old_name.lower()), {"fields": {}})
        elif hasattr(op, "model_name"):
            self.note_field(op, self.models.get((app, op.model_name.lower()), {"fields": {}})["fields"], migration)

    def note_table(self, op, app, state_only=False, database_only=False):
        """Follow which table a model has, and which it had."""
        if not isinstance(op, (ops.CreateModel, ops.DeleteModel, ops.RenameModel, ops.AlterModelTable)):
            return
        key = app, (op.old_name if isinstance(op, ops.RenameModel) else op.name).lower()
        name = (op.new_name if isinstance(op, ops.RenameModel) else op.name).lower()
        old, default = self.tables.get(key), f"{app}_{name}"
        if isinstance(op, ops.DeleteModel):
            new = None
        elif isinstance(op, ops.CreateModel):
            new = op.options.get("db_table") or default
        elif isinstance(op, ops.AlterModelTable):
            new = op.table or default
        else:
            new = default if old == "{}_{}".format(*key) else old
        if not state_only and old != new:
            self.given_away.add(old)
            self.given_away.discard(new)
        if not database_only:
            self.tables.pop(key, None)
            if new is not None:
                self.tables[app, name] = new

    @staticmethod
    def note_field(op, fields, migration):
        """Follow one operation on a field."""
        if isinstance(op, ops.AddField):
            fields[op.name.lower()] = [migration, migration]
        elif isinstance(op, ops.RemoveField):
            fields.pop(op.name.lower(), None)
        elif isinstance(op, ops.AlterField) and op.name.lower() in fields:
            fields[op.name.lower()][1] = migration
        elif isinstance(op, ops.RenameField) and op.old_name.lower() in fields:
            fields[op.new_name.lower()] = [fields.pop(op.old_name.lower())[0], migration]

    def of_model(self, key):
        """Who made a model, or None."""
        return self.models.get(key, {}).get("made")

    def of_field(self, key, name, changed=False):
        """Who made, or last changed, a field, or None."""
        return self.models.get(key, {"fields": {}})["fields"].get(name.lower(), (None, None))[changed]
