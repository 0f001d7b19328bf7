"""Tables: made, removed, renamed, ordered."""

from __future__ import annotations

from bench.migrations.case import Case, Step
from bench.migrations.shop import MODELS, added


def _model(name: str) -> str:
    """A model's own text."""
    begin = MODELS.index(f"class {name}(")
    end = MODELS.find("\n\n\nclass ", begin)
    return MODELS[begin:end] if end > 0 else MODELS[begin:]


MESSAGE, COUPON, DRAFT = _model("Message"), _model("Coupon"), _model("Draft")
REVIEW = """class Review(models.Model):
    order = models.ForeignKey(Order, models.CASCADE)
    author = models.ForeignKey(Customer, models.CASCADE)
    stars = models.IntegerField(default=5, db_index=True)
    title = models.CharField(max_length=50, unique=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(stars__gte=0), name="shop_review_stars")]


"""
NEW_TABLE = """
migrations.CreateModel('Review', [
    ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
    ('author', models.ForeignKey('shop.Customer', models.CASCADE)),
    ('title', models.CharField(max_length=50)),
]),
"""
GROWN = """
migrations.AddField('review', 'order', models.ForeignKey('shop.Order', models.CASCADE)),
migrations.AddField('review', 'stars', models.IntegerField(default=5)),
migrations.AlterField('review', 'stars', models.IntegerField(default=5, db_index=True)),
migrations.AlterField('review', 'title', models.CharField(max_length=50, unique=True)),
migrations.AddConstraint('review', models.CheckConstraint(condition=models.Q(stars__gte=0),
    name='shop_review_stars')),
"""

CASES = (
    Case(
        "remove_table",
        "migrations.DeleteModel('Message'),",
        dangers=("old code", "loss"),
        reasons=("drop-table",),
        models=((MESSAGE, ""),),
    ),
    Case(
        "remove_table_of_view",
        "migrations.DeleteModel('Coupon'),",
        dangers=("old code", "loss"),
        reasons=("drop-table", "view"),
        models=((COUPON, ""),),
    ),
    Case(
        "remove_empty_table",
        "migrations.DeleteModel('Draft'),",
        dangers=("old code",),
        reasons=("drop-table",),
        models=((DRAFT, ""),),
    ),
    Case(
        "rename_model",
        "migrations.RenameModel('Message', 'Note'),",
        dangers=("old code",),
        reasons=("rename-table",),
        models=((MESSAGE, MESSAGE.replace("class Message", "class Note")),),
    ),
    Case(
        "move_to_other_table",
        "migrations.AlterModelTable('message', 'notes'),",
        dangers=("old code",),
        reasons=("rename-table",),
        models=added("Message", '\n    class Meta:\n        db_table = "notes"\n'),
    ),
    Case(
        "order_with_respect_to",
        "migrations.AlterOrderWithRespectTo('item', 'order'),",
        dangers=("old code",),
        reasons=("add-not-null",),
        models=added("Item", '\n    class Meta:\n        order_with_respect_to = "order"\n'),
    ),
    # -- safe
    Case(
        "rename_model_keep_table",
        """
        migrations.AlterModelTable('message', 'shop_message'),
        migrations.RenameModel('Message', 'Note'),
        """,
        models=(
            (
                MESSAGE,
                MESSAGE.replace("class Message", "class Note").replace(
                    "    # Message", '\n    class Meta:\n        db_table = "shop_message"'
                ),
            ),
        ),
    ),
    Case(
        "forget_model",
        "migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel('Message')]),",
        models=((MESSAGE, ""),),
    ),
    Case("new_table_grown_in_one_migration", NEW_TABLE + GROWN, models=((MESSAGE, REVIEW + MESSAGE),)),
    Case("new_table_grown_in_two_migrations", NEW_TABLE, models=((MESSAGE, REVIEW + MESSAGE),), more=(Step(GROWN),)),
    Case(
        "options_and_managers",
        """
        migrations.AlterModelOptions('message', {'ordering': ['id'], 'verbose_name': 'letter'}),
        migrations.AlterModelManagers('message', []),
        """,
        models=added("Message", '\n    class Meta:\n        ordering = ["id"]\n        verbose_name = "letter"\n'),
    ),
    Case(
        "table_comment",
        "migrations.AlterModelTableComment('message', 'what customers wrote'),",
        models=added("Message", '\n    class Meta:\n        db_table_comment = "what customers wrote"\n'),
    ),
    Case(
        "proxy_model",
        "migrations.CreateModel('Letter', [], options={'proxy': True, 'indexes': [], 'constraints': []},"
        " bases=('shop.message',)),",
        models=((MESSAGE, MESSAGE + "\n\nclass Letter(Message):\n    class Meta:\n        proxy = True\n"),),
    ),
)
