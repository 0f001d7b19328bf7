from django.db import migrations


def recount_words(apps, schema_editor):
    document_model = apps.get_model("documents", "Document")
    for document in document_model.objects.all():
        document.word_count = len(f"{document.body} {document.summary or ''}".split())
        document.save()


class Migration(migrations.Migration):
    dependencies = [("documents", "0003_category_index")]

    operations = [
        migrations.RunPython(recount_words, migrations.RunPython.noop),
    ]
